package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An authority speaks as much ACME as it takes to issue a certificate for which it has asked by HTTP (RFC 8555, 7 and 8.3). It does
// not check signatures of requests.
type authority struct {
	t    *testing.T
	srv  *httptest.Server
	port int // where it asks, in the place of 80
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	mu       sync.Mutex
	nonces   int
	domain   string
	valid    bool
	issued   int
	chain    []byte
	problems []string
}

func newAuthority(t *testing.T, port int) *authority {
	t.Helper()
	a := &authority{t: t, port: port}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	a.srv = httptest.NewTLSServer(a)
	t.Cleanup(a.srv.Close)
	return a
}

// payload returns what a request says inside its signature.
func payload(r *http.Request) (v map[string]any) {
	var jws struct{ Payload string }
	json.NewDecoder(r.Body).Decode(&jws)
	b, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
	json.Unmarshal(b, &v)
	return v
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nonces++
	w.Header().Set("Replay-Nonce", fmt.Sprint("nonce", a.nonces))
	base := a.srv.URL
	order := func() map[string]any {
		o := map[string]any{
			"status": "pending", "identifiers": []any{map[string]string{"type": "dns", "value": a.domain}},
			"authorizations": []string{base + "/authz"}, "finalize": base + "/finalize",
		}
		if a.valid {
			o["status"] = "ready"
		}
		if a.chain != nil {
			o["status"], o["certificate"] = "valid", base+"/cert"
		}
		return o
	}
	challenge := func() map[string]any {
		c := map[string]any{"type": "http-01", "url": base + "/challenge", "token": "token-of-the-test", "status": "pending"}
		if a.valid {
			c["status"] = "valid"
		}
		return c
	}
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	switch r.URL.Path {
	case "/directory":
		answer(200, map[string]any{"newNonce": base + "/nonce", "newAccount": base + "/account", "newOrder": base + "/order", "meta": map[string]any{}})
	case "/nonce":
	case "/account":
		w.Header().Set("Location", base+"/account/1")
		answer(201, map[string]any{"status": "valid"})
	case "/order":
		ids, _ := payload(r)["identifiers"].([]any)
		if len(ids) == 1 {
			a.domain, _ = ids[0].(map[string]any)["value"].(string)
		}
		w.Header().Set("Location", base+"/order/1")
		answer(201, order())
	case "/order/1":
		answer(200, order())
	case "/authz":
		state := "pending"
		if a.valid {
			state = "valid"
		}
		answer(200, map[string]any{"status": state, "identifier": map[string]string{"type": "dns", "value": a.domain}, "challenges": []any{challenge()}})
	case "/challenge":
		a.ask()
		answer(200, challenge())
	case "/finalize":
		a.sign(payload(r)["csr"])
		w.Header().Set("Location", base+"/order/1")
		answer(200, order())
	case "/cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Write(a.chain)
	default:
		answer(404, map[string]any{"type": "urn:ietf:params:acme:error:malformed"})
	}
}

// ask asks the domain, which is on this machine, for the answer to the challenge.
func (a *authority) ask() {
	r, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d/.well-known/acme-challenge/token-of-the-test", a.port), nil)
	if err != nil {
		a.problems = append(a.problems, err.Error())
		return
	}
	r.Host = a.domain
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.problems = append(a.problems, err.Error())
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if token, thumb, ok := strings.Cut(string(body), "."); ok && token == "token-of-the-test" && len(thumb) == 43 {
		a.valid = true
		return
	}
	a.problems = append(a.problems, fmt.Sprintf("HTTP %d: %s", resp.StatusCode, body))
}

func (a *authority) sign(csr any) {
	text, _ := csr.(string)
	der, _ := base64.RawURLEncoding.DecodeString(text)
	req, err := x509.ParseCertificateRequest(der)
	if err != nil || !a.valid {
		a.problems = append(a.problems, fmt.Sprint("no order to sign: ", err))
		return
	}
	a.issued++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(1 + a.issued)), DNSNames: []string{a.domain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, a.cert, req.PublicKey, a.key)
	if err != nil {
		a.problems = append(a.problems, err.Error())
		return
	}
	a.chain = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestObtain gets a certificate and serves TLS with it, and does so again from the files without asking anybody.
func TestObtain(t *testing.T) {
	const domain = "live.example.com"
	port := freePort(t)
	a := newAuthority(t, port)
	roots := x509.NewCertPool()
	roots.AddCert(a.srv.Certificate())
	dir := t.TempDir()
	for round := range 2 {
		m := New(Options{
			Domains: []string{domain}, Email: "me@example.com", CA: a.srv.URL + "/directory", Dir: dir, HTTPPort: port, Roots: roots,
			Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.Run(ctx)
		}()
		deadline := time.Now().Add(30 * time.Second)
		for {
			err := handshake(m, domain, a.cert)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				a.mu.Lock()
				t.Fatalf("round %d: %v; %v", round, err, a.problems)
			}
			<-time.After(50 * time.Millisecond)
		}
		if err := handshake(m, "other.example.com", a.cert); err == nil {
			t.Error("it serves a name that it has no certificate for")
		}
		cancel()
		<-done
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.issued != 1 {
		t.Errorf("%d certificates were issued, want 1", a.issued)
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if info, infoErr := d.Info(); err == nil && infoErr == nil && strings.HasSuffix(path, ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		return nil
	})
}

// handshake serves one TLS connection of m to a client that asks for name and trusts ca.
func handshake(m *Manager, name string, ca *x509.Certificate) error {
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		_ = tls.Server(server, &tls.Config{GetCertificate: m.Get}).HandshakeContext(context.Background())
	}()
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return tls.Client(client, &tls.Config{RootCAs: pool, ServerName: name}).HandshakeContext(context.Background())
}
