//go:build unix

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestDocumentedFiles runs the commands of docs/files.md, unchanged and in order, beside a server
// on the default ports. The film and the list of the page exist.
func TestDocumentedFiles(t *testing.T) {
	harness.Need(t, "ffmpeg")
	needDefaultPorts(t)
	text, dir := readDocument(t, "docs/files.md"), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"bin/livego": harness.Binary(t, true), "demo.mp4": sample.MediaOf(t, "av.mp4").File(t),
		"two.mp4": sample.MediaOf(t, "b.mp4").File(t),
	} {
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	_, list, _ := strings.Cut(text, "`files.txt` with\n\n```\n")
	list, _, _ = strings.Cut(list, "```")
	if err := os.WriteFile(filepath.Join(dir, "files.txt"), []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	openTerminal(t, dir, "bin/livego")
	harness.Eventually(t, patience, "server ready", serverReady)
	typed := testedBlocks(text)
	if len(typed) != 3 {
		t.Fatalf("the page has %d commands", len(typed))
	}
	for _, f := range typed {
		if f.keepsRunning {
			terminal := openTerminal(t, dir, f.script)
			harness.Eventually(t, patience, "second round", func() error {
				if !strings.Contains(string(terminal.screen()), "2/2 two.mp4, round 2") {
					return os.ErrNotExist
				}
				return nil
			})
			continue
		}
		shell := harness.StartProgram(t, "sh", "-c", "cd '"+dir+"' && "+f.script)
		shell.WaitOK(patience)
	}
}
