//go:build !unix

package harness

import "testing"

// StartProgramAs skips the test: here it cannot run programs as other users.
func StartProgramAs(t testing.TB, _ uint32, _ string, _ ...string) *Process {
	t.Helper()
	skipMissing(t, "running programs as other users needs root")
	return nil
}
