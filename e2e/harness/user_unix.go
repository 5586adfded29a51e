//go:build unix

package harness

import (
	"os"
	"syscall"
	"testing"
)

// StartProgramAs is Go for a program that runs as another user, of this ID. It needs root.
func StartProgramAs(t testing.TB, uid uint32, name string, args ...string) *Process {
	t.Helper()
	if os.Getuid() != 0 {
		skipMissing(t, "root, to run programs as other users, is not here")
	}
	cmd := programCommand(t, name, args)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return startCommand(t, cmd)
}
