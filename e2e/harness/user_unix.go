//go:build unix

package harness

import (
	"os"
	"syscall"
	"testing"
)

// StartProgramAs is StartProgram as the user with this ID. It needs root.
func StartProgramAs(t testing.TB, uid uint32, name string, args ...string) *Process {
	t.Helper()
	if os.Getuid() != 0 {
		skipMissing(t, "running programs as other users needs root")
	}
	cmd := programCommand(t, name, args)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return startCommand(t, cmd)
}
