package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"livego/internal/domain"
	"livego/internal/ops/certtest"
)

func TestTLS(t *testing.T) {
	c := certtest.New(t)
	pool := x509.NewCertPool()
	pool.AddCert(c.Leaf)
	_, port, _ := net.SplitHostPort(startRedisTLS(t, c))
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
func startRedisTLS(t *testing.T, c tls.Certificate) string {
	t.Helper()
	certFile, keyFile := filepath.Join(t.TempDir(), "crt"), filepath.Join(t.TempDir(), "key")
	cert, key := certtest.PEM(t, c)
	if err := errors.Join(os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
		t.Fatal(err)
	}
	s := startRedis(t)
	s.kill()
	s.args = append(s.args, "--port", "0", "--tls-port", s.addr[strings.LastIndexByte(s.addr, ':')+1:],
		"--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-auth-clients", "no")
	s.start()
	return s.addr
}
