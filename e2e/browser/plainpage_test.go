package browser

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"livego/e2e/harness"
)

// buildWithoutNode builds livego without the console and the player, as on a machine without Node.
func buildWithoutNode(t *testing.T) (binary string) {
	t.Helper()
	root, err := filepath.Abs("../../web/dist/files")
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}} // by file: the file in its place, "" for none
	if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			overlay.Replace[path] = ""
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "livego")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-overlay", file, "-o", binary, "livego/cmd/livego")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// TestPlainPage uses the forms of the page that a server without the console serves.
func TestPlainPage(t *testing.T) {
	needBrowser(t)
	needWeb(t)
	t.Parallel()
	s := harness.Start(t, harness.Options{Binary: buildWithoutNode(t), NoRace: true,
		Flags: []string{"--private=*", "--token.secret=a secret that signs the tokens of a test"}})
	harness.StartProgram(t, "node", "plainpage.mjs", s.API("/")).WaitOK(patience)
}
