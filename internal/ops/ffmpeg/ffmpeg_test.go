//go:build unix

package ffmpeg

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fakeFFmpeg installs a shell script as ffmpeg.
func fakeFFmpeg(t *testing.T, script string) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ffmpeg"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
}

// TestFFmpegOutput reads the output of processes that succeed, and of some that fail.
func TestFFmpegOutput(t *testing.T) {
	for _, tt := range []struct {
		name, script, want string
	}{
		{"success", "echo picture", "picture\n EOF"},
		{"success with warnings", "echo picture; echo a frame is damaged >&2", "picture\n EOF"},
		{"failed", "echo picture; echo >&2; echo it broke >&2; echo for good >&2; exit 3",
			"picture\n ffmpeg: it broke (exit status 3)"},
		{"failed before output", "echo no such codec >&2; exit 1", " ffmpeg: no such codec (exit status 1)"},
		{"failed without a message", "exit 1", " ffmpeg: stopped unexpectedly (exit status 1)"},
		{"killed", "echo picture; kill -9 $$", "picture\n ffmpeg: stopped unexpectedly (signal: killed)"},
		{"failed with many messages", "yes line | head -c 1000000 >&2; exit 1", " ffmpeg: line (exit status 1)"},
		{"failed with a long line", "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1",
			" ffmpeg: " + strings.Repeat("x", maxStderr) + " (exit status 1)"},
		{"left a child process", "echo picture; sleep 20 >/dev/null & exit 0", "picture\n EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fakeFFmpeg(t, tt.script)
			c, err := Start(t.Context(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			all, err := io.ReadAll(c)
			_, again := c.Read(make([]byte, 1))
			if err == nil {
				err = io.EOF // which ReadAll does not return
			}
			if got := fmt.Sprintf("%s %v", all, err); got != tt.want || again != err {
				t.Errorf("%q, then %v, want %q", got, again, tt.want)
			}
		})
	}
}

// TestFFmpegIsKilledOnCancel cancels processes that would never end or never close their output.
func TestFFmpegIsKilledOnCancel(t *testing.T) {
	for name, script := range map[string]string{
		"busy":                      "exec cat /dev/zero",
		"silent":                    "echo picture; exec sleep 20",
		"with a child":              "echo picture; sleep 20; echo more",
		"gone, with a child":        "echo picture; sleep 20 & exit 1",
		"still there, but finished": "echo picture; exec >&-; sleep 20",
	} {
		t.Run(name, func(t *testing.T) {
			fakeFFmpeg(t, script)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c, err := Start(ctx, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			time.AfterFunc(50*time.Millisecond, cancel)
			if _, err := io.Copy(io.Discard, c); err == nil {
				t.Error("no error after cancel")
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 10*waitDelay { // half of the scripts' sleep
				t.Errorf("it took %v to end", took)
			}
		})
	}
}

// TestUntrusted runs a process for hostile input: it has a low priority, limited memory, and none of
// this process's environment, and its end takes its child processes with it.
func TestUntrusted(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("limits of other processes are for Linux only")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t.Setenv("LIVEGO_ADMIN_TOKEN", "secret")
	fakeFFmpeg(t, `read line; cut -d' ' -f19 /proc/$$/stat; ulimit -v; cat /proc/$$/oom_score_adj; env | grep -c LIVEGO
sleep 100 & echo $!; wait`)
	input, start := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Start(ctx, Options{Stdin: input, Untrusted: true})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(start, "limits are set\n")
	start.Close()
	lines := bufio.NewScanner(c)
	for _, want := range []string{"10", "2097152", "1000", "0"} {
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("%q, want %q", lines.Text(), want)
		}
	}
	lines.Scan()
	child := "/proc/" + lines.Text() + "/stat"
	cancel()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for b, err := os.ReadFile(child); err == nil; b, err = os.ReadFile(child) {
		if _, state, _ := strings.Cut(string(b), ") "); strings.HasPrefix(state, "Z") {
			break
		}
		runtime.Gosched()
	}
}
