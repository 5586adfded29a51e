package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
)

// certificate creates a certificate for 127.0.0.1, and a pool that trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der},
		key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusted, _ := x509.ParseCertificate(der)
	pool = x509.NewCertPool()
	pool.AddCert(trusted)
	return cert, key, pool
}

func TestTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	_, port, _ := net.SplitHostPort(startRedisTLS(t, cert, key))
	addr := "rediss://127.0.0.1:" + port
	trusting := open(t, addr, func(o *Options) { o.TLS = &tls.Config{RootCAs: pool} })
	k := mustGet(t, trusting, "movie")
	if got := mustGet(t, open(t, addr, func(o *Options) { o.NoVerify = true }), "movie"); got.Ref() != k.Ref() {
		t.Errorf("without verification: %v", got.Ref())
	}
	for name, s := range map[string]keyStore{"untrusted certificate": open(t, addr),
		"plain": open(t, "redis://127.0.0.1:"+port)} {
		if _, err := s.Get(t.Context(), "", "movie"); domain.KindOf(err) != domain.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// startRedisTLS starts a redis-server that accepts only TLS.
func startRedisTLS(t *testing.T, cert, key string) string {
	t.Helper()
	s := startRedis(t)
	s.kill()
	s.args = append(s.args, "--port", "0", "--tls-port", s.addr[strings.LastIndexByte(s.addr, ':')+1:],
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	s.start()
	return s.addr
}
