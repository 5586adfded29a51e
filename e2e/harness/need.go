// Package harness runs the real livego binary and the programs that connect to it. It starts,
// observes and stops processes, and gives the addresses between them. It uses the server's
// documented interface only.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// NeedRights runs a command that only root may run. If the user is not root or the command fails, it
// skips the test or fails it, as Need does.
func NeedRights(t testing.TB, name string, args ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "MISSING RIGHTS: "+name+" needs root")
	}
	Need(t, name)
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		skip(t, fmt.Sprintf("MISSING RIGHTS: %s %q: %v: %s", name, args, err, out))
	}
}

// skipMissing skips a test that lacks something it needs, or fails it if CI=true.
func skipMissing(t testing.TB, what string) {
	t.Helper()
	skip(t, "MISSING PEER: "+what)
}

func skip(t testing.TB, reason string) {
	t.Helper()
	if onBuildMachine() {
		t.Fatalf("%s, and CI=true", reason)
	}
	t.Skipf("%s; this test checks NOTHING here: see scripts/setup", reason)
}

func onBuildMachine() bool { return os.Getenv("CI") == "true" }

// Long reports whether tests may run for minutes (make test-long).
func Long() bool { return os.Getenv("TEST_LONG") != "" }

// NeedFile is Need for a file that scripts/setup installs.
func NeedFile(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		skipMissing(t, path+" is not installed")
	}
}

// PathWithout returns a PATH like that of this process, but without programs of these names.
func PathWithout(t testing.TB, names ...string) string {
	t.Helper()
	bin := t.TempDir()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		programs, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range programs {
			if slices.Contains(names, filepath.Base(path)) {
				continue
			}
			if err := os.Symlink(path, filepath.Join(bin, filepath.Base(path))); err != nil && !os.IsExist(err) {
				t.Fatal(err)
			}
		}
	}
	return bin
}
