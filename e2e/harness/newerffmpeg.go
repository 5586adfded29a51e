package harness

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// newerRoot is where scripts/setup installs a Debian of its own, whose ffmpeg supports all of
// Enhanced RTMP.
const newerRoot = "/var/cache/livego-test/sid"

// NeedNewerFFmpeg is Need for the ffmpeg of NewerFFmpeg.
func NeedNewerFFmpeg(t testing.TB) {
	t.Helper()
	switch _, err := os.Stat(newerRoot + "/usr/bin/ffmpeg"); {
	case err != nil:
		skipMissing(t, "no ffmpeg in "+newerRoot)
	case os.Getuid() != 0:
		skipMissing(t, "the ffmpeg in "+newerRoot+" runs in a chroot, which needs root")
	}
}

// NewerFFmpeg starts an ffmpeg that supports the codecs and the multitrack packets of Enhanced
// RTMP. It runs in a chroot and sees no file of this machine: it reads in as its standard input.
func NewerFFmpeg(t testing.TB, in []byte, args ...string) *Process {
	t.Helper()
	NeedNewerFFmpeg(t)
	cmd := exec.Command("/usr/sbin/chroot",
		append([]string{newerRoot, "ffmpeg", "-hide_banner", "-v", "warning"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	return startCommand(t, cmd)
}
