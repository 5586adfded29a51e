package certfile

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"livego/internal/ops/certtest"
)

// writePair writes c and its key, with the modification time at.
func writePair(t *testing.T, certFile, keyFile string, c tls.Certificate, at time.Time) {
	t.Helper()
	cert, key := certtest.PEM(t, c)
	for path, data := range map[string][]byte{certFile: cert, keyFile: key} {
		if err := errors.Join(os.WriteFile(path, data, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReload checks that a valid pair of changed files is loaded, and an invalid one is
// not.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	now := time.Now()
	first, second, third := certtest.New(t), certtest.New(t), certtest.New(t)
	writePair(t, cert, key, first, now)
	c, err := Load(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serves := func(want tls.Certificate) {
		t.Helper()
		c.reloadIfChanged()
		pair, err := c.Get(nil)
		if err != nil || !pair.Leaf.Equal(want.Leaf) {
			t.Errorf("serves another certificate, %v", err)
		}
	}
	serves(first)
	writePair(t, cert, key, second, now.Add(time.Second))
	serves(second)
	if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	serves(second)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	serves(second)
	// a key of another certificate
	writePair(t, cert, filepath.Join(dir, "other"), certtest.New(t), now.Add(2*time.Second))
	writePair(t, filepath.Join(dir, "another"), key, certtest.New(t), now.Add(2*time.Second))
	serves(second)
	writePair(t, cert, key, third, now.Add(3*time.Second))
	serves(third)
}
