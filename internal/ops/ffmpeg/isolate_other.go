//go:build !linux

package ffmpeg

import (
	"os"
	"os/exec"
)

// isolate prepares a process for hostile input.
func isolate(cmd *exec.Cmd) { cmd.Env = []string{"PATH=" + os.Getenv("PATH")} }

// limit does nothing: this system has no limits for another process.
func limit(int) {}

// kill kills p.
func kill(p *os.Process, _ bool) error { return p.Kill() }
