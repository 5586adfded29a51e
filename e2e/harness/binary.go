package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binariesEnv names the environment variable with the directory of the builds: plain, as people run
// livego, and race, with the race detector. The scripts set it for all packages; otherwise Main
// sets it for its own. It does not begin with LIVEGO_, because livego warns about unknown variables
// with that prefix.
const binariesEnv = "E2E_BINARIES"

// Main runs the tests of a package on livego as people run it, or on a build with the race detector
// if E2E_RACE=1. It builds livego unless the environment names a directory of builds. TestMain
// calls it and exits with the code that it returns.
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

// Binary returns the path of the livego binary. That is the build with the race detector if there
// is one, unless noRace is true: tests that measure memory or processor time need the build that
// people run.
func Binary(t testing.TB, noRace bool) string {
	t.Helper()
	dir := os.Getenv(binariesEnv)
	if dir == "" {
		t.Fatal("the package's TestMain does not call harness.Main")
	}
	if race := filepath.Join(dir, "race"); !noRace {
		if _, err := os.Stat(race); err == nil {
			return race
		}
	}
	return filepath.Join(dir, "plain")
}
