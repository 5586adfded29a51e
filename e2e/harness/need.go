// Package harness runs the real livego binary and the programs that connect to it. It starts,
// observes and stops processes, and gives the addresses between them. It uses the server's
// documented interface only.
package harness

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test if one of the programs is not installed, and says so. On a build machine
// (CI=true) it fails the test instead, so that nothing is skipped unnoticed.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if _, err := os.Stat("/usr/sbin/" + p); err == nil {
			continue
		}
		skipMissing(t, p+" is not installed")
	}
}

// skipMissing skips a test that lacks something it needs, or fails it if CI=true.
func skipMissing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("MISSING PEER: %s, and CI=true", what)
	}
	t.Skipf("MISSING PEER: %s; this test checks NOTHING here: see scripts/setup", what)
}

// Long reports whether tests may run for minutes (make test-long).
func Long() bool { return os.Getenv("TEST_LONG") != "" }

// NeedFile is Need for a file that scripts/setup installs.
func NeedFile(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		skipMissing(t, path+" is not installed")
	}
}
