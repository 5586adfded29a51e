//go:build unix

package rig

import (
	"os"
	"syscall"
	"testing"
)

// GoAs is Go for a program that runs as another user, of this ID. It needs root.
func GoAs(t testing.TB, uid uint32, name string, args ...string) *Process {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "root, to run programs as other users, is not here")
	}
	cmd := installed(t, name, args)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return run(t, cmd)
}
