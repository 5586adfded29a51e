package rig

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// newer is where scripts/setup puts a Debian of its own, whose ffmpeg speaks all of Enhanced RTMP.
const newer = "/var/cache/livego-test/sid"

// NeedNewer is Need for the ffmpeg of NewerFFmpeg.
func NeedNewer(t testing.TB) {
	t.Helper()
	switch _, err := os.Stat(newer + "/usr/bin/ffmpeg"); {
	case err != nil:
		missing(t, "there is no ffmpeg in "+newer)
	case os.Getuid() != 0:
		missing(t, "the ffmpeg in "+newer+" is run by chroot, which takes root")
	}
}

// NewerFFmpeg starts an ffmpeg that knows the codecs of Enhanced RTMP, and several tracks of a kind. It sees no file of this machine:
// in is its standard input.
func NewerFFmpeg(t testing.TB, in []byte, args ...string) *Process {
	t.Helper()
	NeedNewer(t)
	cmd := exec.Command("/usr/sbin/chroot", append([]string{newer, "ffmpeg", "-hide_banner", "-v", "warning"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	return run(t, cmd)
}
