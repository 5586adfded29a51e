// Package acmetest is an authority for tests: as much of ACME (RFC 8555) as it takes to issue
// certificates for which it has asked by HTTP, with all that an authority checks of who asks. It
// knows nothing of livego.
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
	nonces      map[string]bool // that may be used once
	accounts    []*ecdsa.PublicKey
	orders      []*order
	validations int // questions, by HTTP
	issued      int
	from, to    time.Duration // when certificates begin and end, from now
	down        bool
	problems    []string
}

// An order is what an account wants, from pending to valid (7.1.6).
type order struct {
	account int
	domain  string
	token   string // of its one challenge
	status  string // "pending", "ready", "valid", "invalid"
	chain   []byte // in PEM
}

// New starts an authority that comes to these ports of 127.0.0.1 in turn, as where a name has
// several addresses, in the place of 80. Its certificates are good for a day.
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

// Certificate returns what the authority itself is reached by, over TLS.
func (a *Authority) Certificate() *x509.Certificate { return a.srv.Certificate() }

// Root returns what its certificates are trusted by.
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

// Problems returns what it has refused.
func (a *Authority) Problems() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.problems)
}

// SetValidity has the certificates from now on begin and end so long after they are issued.
func (a *Authority) SetValidity(from, to time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from, a.to = from, to
}

// SetDown has it answer 503 to everything, or no more.
func (a *Authority) SetDown(deaf bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = deaf
}

// issue issues what o asks for; a.mu is held.
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
