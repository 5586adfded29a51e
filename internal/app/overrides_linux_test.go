package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"livego/internal/ops/config"
)

// TestUnreadableOverrides runs a server as a user that may not read the settings of the API.
func TestUnreadableOverrides(t *testing.T) {
	t.Chdir(t.TempDir())
	dir := t.TempDir()
	file := filepath.Join(dir, "settings.json")
	if err := os.WriteFile(file, []byte(`{"relay_max":"5"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	sources := config.Sources{Flags: map[string]string{"data_dir": dir}}
	running, err := config.Load(sources)
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{file: 0, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		const nobody = 65534
		if os.Geteuid() == 0 { // root may read every file
			if err := syscall.Setfsuid(nobody); err != nil {
				t.Error(err)
				return
			}
		}
		const want = "the settings of the API are unknown"
		if _, err := running.Reload(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("reload: %v, want %q", err, want)
		}
		loaded, err := config.Load(sources)
		if err != nil || len(loaded.Warnings) != 1 || !strings.Contains(loaded.Warnings[0], want) {
			t.Errorf("load: %v, warnings %q", err, loaded.Warnings)
			return
		}
		a, err := New(loaded, slog.New(slog.DiscardHandler), new(slog.LevelVar))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("start: %v, want %q", err, want)
		}
		if err == nil {
			a.Close()
		}
	}()
	<-done
}
