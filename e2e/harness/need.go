// Package harness runs the real livego binary and the real programs that talk to it: it starts,
// watches and ends processes, and gives the addresses between them. It knows the server by its
// documented interface only.
package harness

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test, loudly, when one of the programs is not installed. On a build machine
// (CI=true) it fails the test instead: there nothing may be skipped unseen.
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

// skipMissing ends a test whose peer is skipMissing.
func skipMissing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("MISSING PEER: %s, and CI=true", what)
	}
	t.Skipf("MISSING PEER: %s, so that this test proves NOTHING here: see scripts/setup", what)
}

// Long reports whether the tests may take their time (make test-long).
func Long() bool { return os.Getenv("TEST_LONG") != "" }

// NeedFile is Need for a file that scripts/setup installs.
func NeedFile(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("MISSING PEER: %s is not installed, and CI=true", path)
	}
	t.Skipf("MISSING PEER: %s is not installed, so that this test proves NOTHING here: see scripts/setup", path)
}
