package certfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair writes a certificate with a serial number and its key, with the modification time at.
func writePair(t *testing.T, cert, key string, serial int64, at time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der},
		key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
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
	writePair(t, cert, key, 1, now)
	c, err := Load(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serves := func(want int64) {
		t.Helper()
		c.reloadIfChanged()
		pair, err := c.Get(nil)
		if err != nil || pair.Leaf.SerialNumber.Int64() != want {
			t.Errorf("serving certificate %v, %v; want %d", pair.Leaf.SerialNumber, err, want)
		}
	}
	serves(1)
	writePair(t, cert, key, 2, now.Add(time.Second))
	serves(2)
	if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	serves(2)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	serves(2)
	writePair(t, cert, filepath.Join(dir, "other"), 3, now.Add(2*time.Second)) // a key of another certificate
	writePair(t, filepath.Join(dir, "another"), key, 4, now.Add(2*time.Second))
	serves(2)
	writePair(t, cert, key, 5, now.Add(3*time.Second))
	serves(5)
}
