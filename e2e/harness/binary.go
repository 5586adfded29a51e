package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binariesEnv is the environment variable that says where livego is built: plain, as people run it,
// or race, with the race detector. The scripts set it for all packages, else Main does for its own.
// Livego would warn of one that begins with its own name.
const binariesEnv = "E2E_BINARIES"

// Main runs the tests, on livego as people run it, or with the race detector where E2E_RACE=1. It
// builds that where the environment names no build. A TestMain calls it and exits with what it
// returns.
func Main(m *testing.M) int {
	if os.Getenv(binariesEnv) != "" {
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
	os.Setenv(binariesEnv, dir)
	return m.Run()
}

func build(dir string) error {
	names := []string{"plain"}
	if os.Getenv("E2E_RACE") == "1" {
		names = append(names, "race")
	}
	for _, name := range names {
		args := []string{"build", "-o", filepath.Join(dir, name)}
		if name == "race" {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, "livego/cmd/livego")...).CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// Binary returns the path of livego: built with the race detector where there is such a build,
// unless plain asks for it as people run it. Memory and processor time are measured there.
func Binary(t testing.TB, plain bool) string {
	t.Helper()
	dir := os.Getenv(binariesEnv)
	if dir == "" {
		t.Fatal("the package's TestMain does not call rig.Main")
	}
	if race := filepath.Join(dir, "race"); !plain {
		if _, err := os.Stat(race); err == nil {
			return race
		}
	}
	return filepath.Join(dir, "plain")
}
