//go:build !unix

package rig

import "testing"

// GoAs ends the test: programs run as other users by root alone.
func GoAs(t testing.TB, _ uint32, _ string, _ ...string) *Process {
	t.Helper()
	missing(t, "root, to run programs as other users, is not here")
	return nil
}
