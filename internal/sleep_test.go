package internal_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoSleep keeps tests from sleeping until something has probably happened: under
// testing/synctest a sleep takes no time and ends exactly when everybody else waits, and only there
// is it allowed.
func TestNoSleep(t *testing.T) {
	sleep := []byte("time." + "Sleep(")
	for _, dir := range []string{"cmd", "internal", "e2e"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if bytes.Contains(text, sleep) && !bytes.Contains(text, []byte(`"testing/synctest"`)) {
				t.Errorf("%s sleeps outside testing/synctest", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
