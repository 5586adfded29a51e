package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binaries is the environment variable that says where the two builds are. scripts/test sets it for all packages, else Main does for
// its own. Livego would warn of one that begins with its own name.
const binaries = "E2E_BINARIES"

// Main runs the tests, on livego built twice: with the race detector and as people run it. It builds both where the environment
// names none. A TestMain calls it and exits with what it returns.
func Main(m *testing.M) int {
	if os.Getenv(binaries) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "livego-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(binaries, dir)
	return m.Run()
}

func build(dir string) error {
	race := []string{"-race"}
	if out, err := exec.Command("go", "env", "CGO_ENABLED").Output(); err == nil && strings.TrimSpace(string(out)) == "0" {
		fmt.Fprintln(os.Stderr, "no C compiler: the server is tested without the race detector")
		race = nil
	}
	for name, flags := range map[string][]string{"race": race, "plain": nil} {
		args := append(append([]string{"build"}, flags...), "-o", filepath.Join(dir, name), "livego/cmd/livego")
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// Binary returns the path of livego built with the race detector, or with plain as people run it: memory and processor time are
// judged there.
func Binary(t testing.TB, plain bool) string {
	t.Helper()
	dir := os.Getenv(binaries)
	if dir == "" {
		t.Fatal("the package's TestMain does not call rig.Main")
	}
	if plain {
		return filepath.Join(dir, "plain")
	}
	return filepath.Join(dir, "race")
}
