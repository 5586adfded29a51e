package internal_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoSleep forbids time.Sleep in tests, except under testing/synctest, where a sleep takes no time
// and ends when every other goroutine is blocked.
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
