package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/internal/ops/acme/acmetest"
)

const acmeDomain = "live.example.com"

// An acmeServer is a livego that gets its certificate from a test authority.
type acmeServer struct {
	*harness.Server
	authority *acmetest.Authority
}

// acmeFlags returns the flags and the environment of a server that uses the authority. The
// authority validates domains at port.
func acmeFlags(t *testing.T, a *acmetest.Authority, port int) (flags, env []string) {
	t.Helper()
	trusted := filepath.Join(t.TempDir(), "authority.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	if err := os.WriteFile(trusted, text, 0o600); err != nil {
		t.Fatal(err)
	}
	flags = []string{"--acme.domains=" + acmeDomain, "--acme.ca=" + a.Directory(),
		fmt.Sprintf("--acme.http_port=%d", port)}
	return flags, []string{"SSL_CERT_FILE=" + trusted}
}

// startACME starts a server whose authority validates domains at port.
func startACME(t *testing.T, a *acmetest.Authority, port int, o harness.Options) acmeServer {
	t.Helper()
	flags, env := acmeFlags(t, a, port)
	o.Flags, o.Env = slices.Concat(o.Flags, flags, []string{"--enable_https=true"}), append(o.Env, env...)
	return acmeServer{harness.Start(t, o), a}
}

// certificate returns the certificate that the listener of a flag serves for the domain.
func (s acmeServer) certificate(flag string) (*x509.Certificate, error) {
	c, err := tls.Dial("tcp", s.Addr(flag), &tls.Config{RootCAs: s.authority.Root(), ServerName: acmeDomain})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

func (s acmeServer) awaitCertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	var cert *x509.Certificate
	harness.Eventually(t, patience, "a certificate", func() (err error) {
		cert, err = s.certificate("https_addr")
		return err
	})
	return cert
}

// TestACMECertificateIsShared has two servers with one Redis get one certificate between them, and
// keep it when Redis has invalid data or is gone.
func TestACMECertificateIsShared(t *testing.T) {
	harness.Need(t, "redis-server", "redis-cli")
	t.Parallel()
	r := harness.StartRedis(t)
	ports := harness.FreePorts(t, 2)
	a := acmetest.New(t, ports...)
	shared := harness.Options{Flags: []string{"--redis_addr=" + r.Addr()}}
	first, second := startACME(t, a, ports[0], shared), startACME(t, a, ports[1], shared)
	cert := first.awaitCertificate(t)
	if other := second.awaitCertificate(t); !other.Equal(cert) || a.Issued() != 1 {
		t.Errorf("%d certificates were issued for two servers, want 1", a.Issued())
	}
	harness.Eventually(t, patience, "the log", func() error {
		if log := first.Stderr() + second.Stderr(); !strings.Contains(log, "certificate obtained") {
			return errors.New(log)
		}
		return nil
	})
	if log := first.Stderr() + second.Stderr(); strings.Count(log, "certificate obtained") != 1 ||
		strings.Contains(log, "PRIVATE KEY") {
		t.Errorf("the log contains:\n%s", log)
	}
	for name := range strings.Lines(r.Do("HKEYS", "{livego}:files")) {
		r.Do("HSET", "{livego}:files", strings.TrimSpace(name), "garbage")
	}
	second.Stop()
	second = startACME(t, a, ports[1], harness.Options{Flags: shared.Flags, DataDir: second.DataDir})
	if got := second.awaitCertificate(t); !got.Equal(cert) {
		t.Error("another certificate is served with invalid data in Redis")
	}
	second.Stop()
	r.Crash()
	second = startACME(t, a, ports[1], harness.Options{Flags: shared.Flags, DataDir: second.DataDir, NoWait: true})
	for _, s := range []acmeServer{first, second} {
		if got := s.awaitCertificate(t); !got.Equal(cert) {
			t.Error("another certificate is served without Redis")
		}
	}
	if a.Issued() != 1 {
		t.Errorf("%d certificates were issued, want 1", a.Issued())
	}
}

// TestACMERenewsExpiringCertificate restarts a server whose certificate expires soon.
func TestACMERenewsExpiringCertificate(t *testing.T) {
	t.Parallel()
	port := harness.FreePorts(t, 1)[0]
	a := acmetest.New(t, port)
	a.SetValidity(-time.Hour, 10*time.Minute)
	s := startACME(t, a, port, harness.Options{})
	old := s.awaitCertificate(t)
	s.Stop()
	a.SetValidity(-time.Hour, 24*time.Hour)
	s = startACME(t, a, port, harness.Options{DataDir: s.DataDir})
	harness.Eventually(t, patience, "a renewed certificate", func() error {
		if cert := s.awaitCertificate(t); cert.Equal(old) {
			return fmt.Errorf("still the old certificate")
		}
		return nil
	})
	if a.Issued() != 2 || len(a.Problems()) > 0 {
		t.Errorf("%d certificates were issued, want 2; refused requests: %v", a.Issued(), a.Problems())
	}
}
