// Package acmetest is a certificate authority for tests. It implements the part of ACME (RFC 8555)
// that issues certificates after HTTP challenges, with all checks that an authority makes. It knows
// nothing of livego.
package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// An Authority issues certificates. Its methods are safe for concurrent use.
type Authority struct {
	srv   *httptest.Server
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
	ports []int

	mu          sync.Mutex
	nonces      map[string]bool // unused
	accounts    []*ecdsa.PublicKey
	orders      []*order
	validations int // challenges that were validated
	issued      int
	from, to    time.Duration // begin and end of certificates, from now
	down        bool
	problems    []string
}

// An order is a request for a certificate, from pending to valid (7.1.6).
type order struct {
	account int
	domain  string
	token   string // of its only challenge
	status  string // "pending", "ready", "valid", "invalid"
	chain   []byte // PEM
}

// New starts an authority. It sends challenges to these ports of 127.0.0.1 in turn, instead of port
// 80 of a name with several addresses. Its certificates are valid for a day.
func New(t testing.TB, ports ...int) *Authority {
	t.Helper()
	a := &Authority{ports: ports, nonces: map[string]bool{}, from: -time.Hour, to: 24 * time.Hour}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.srv = httptest.NewTLSServer(a)
	t.Cleanup(a.srv.Close)
	t.Cleanup(func() {
		for _, p := range a.Problems() {
			t.Log("authority: ", p)
		}
	})
	return a
}

// Directory returns the URL of the directory.
func (a *Authority) Directory() string { return a.srv.URL + "/directory" }

// Certificate returns the TLS certificate of the authority's own server.
func (a *Authority) Certificate() *x509.Certificate { return a.srv.Certificate() }

// Root returns the roots that trust the issued certificates.
func (a *Authority) Root() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issued returns how many certificates were issued.
func (a *Authority) Issued() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issued
}

// Problems returns the errors of the requests that it refused.
func (a *Authority) Problems() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.problems)
}

// SetValidity sets when new certificates begin and end, from the time of their issue.
func (a *Authority) SetValidity(from, to time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from, a.to = from, to
}

// SetDown makes it answer 503 to every request, or work again.
func (a *Authority) SetDown(deaf bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = deaf
}

// issue issues the certificate of o. The caller holds a.mu.
func (a *Authority) issue(o *order, csr *x509.CertificateRequest) error {
	a.issued++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(1 + a.issued)), DNSNames: []string{o.domain},
		NotBefore: time.Now().Add(a.from), NotAfter: time.Now().Add(a.to),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, a.cert, csr.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	o.status = "valid"
	for _, der := range [][]byte{leaf, a.cert.Raw} {
		o.chain = append(o.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return nil
}
