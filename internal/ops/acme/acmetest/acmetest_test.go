package acmetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A client signs requests by hand.
type client struct {
	t    *testing.T
	a    *Authority
	http *http.Client
	key  *ecdsa.PrivateKey
	kid  string
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *client) jwk() string {
	point, err := c.key.PublicKey.Bytes()
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, encodeBase64(point[1:33]), encodeBase64(point[33:]))
}

func (c *client) nonce() string {
	c.t.Helper()
	resp, err := c.http.Head(c.a.srv.URL + "/nonce")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.Header.Get("Replay-Nonce")
}

// post signs a request and returns the status, the type of problem and the URL of the new resource.
// edit may corrupt the parts of the request.
func (c *client) post(path, payload string, edit func(head map[string]any, sig []byte) []byte) (status int, kind,
	location string) {
	c.t.Helper()
	head := map[string]any{"alg": "ES256", "nonce": c.nonce(), "url": c.a.srv.URL + path}
	if c.kid == "" {
		head["jwk"] = json.RawMessage(c.jwk())
	} else {
		head["kid"] = c.kid
	}
	sign := func() (string, []byte) {
		text, err := json.Marshal(head)
		if err != nil {
			c.t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(encodeBase64(text) + "." + encodeBase64([]byte(payload))))
		r, s, err := ecdsa.Sign(rand.Reader, c.key, sum[:])
		if err != nil {
			c.t.Fatal(err)
		}
		return encodeBase64(text), append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	if edit != nil {
		edit(head, nil)
	}
	text, sig := sign()
	if edit != nil {
		sig = edit(head, sig)
	}
	body, _ := json.Marshal(map[string]string{"protected": text, "payload": encodeBase64([]byte(payload)),
		"signature": encodeBase64(sig)})
	resp, err := c.http.Post(c.a.srv.URL+path, "application/jose+json", bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var problem struct{ Type string }
	_ = json.NewDecoder(resp.Body).Decode(&problem)
	return resp.StatusCode, strings.TrimPrefix(problem.Type, "urn:ietf:params:acme:error:"), resp.Header.Get("Location")
}

// csr returns the body of a finalize request.
func csr(t *testing.T, key *ecdsa.PrivateKey, names ...string) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"csr":%q}`, encodeBase64(der))
}

// TestAuthorityRefusesInvalidRequests sends invalid signatures, nonces, URLs, accounts, challenge
// responses and names.
func TestAuthorityRefusesInvalidRequests(t *testing.T) {
	var answer string
	domain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
	defer domain.Close()
	var port int
	fmt.Sscanf(domain.URL, "http://127.0.0.1:%d", &port)
	a := New(t, port)
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	c := &client{t: t, a: a, http: &http.Client{Transport: transport}, key: newKey(t)}

	const agreed = `{"termsOfServiceAgreed":true}`
	used := ""
	for name, test := range map[string]struct {
		payload string
		edit    func(map[string]any, []byte) []byte
		kind    string
	}{
		"terms not agreed": {`{}`, nil, "userActionRequired"},
		"wrong signature": {agreed, func(_ map[string]any, sig []byte) []byte { return append(sig[:len(sig):len(sig)], 0) },
			"unauthorized"},
		"corrupted signature": {agreed, func(_ map[string]any, sig []byte) []byte {
			if sig != nil {
				sig[5] ^= 1
			}
			return sig
		}, "unauthorized"},
		"unknown nonce": {agreed, func(h map[string]any, s []byte) []byte { h["nonce"] = "made up"; return s }, "badNonce"},
		"other URL": {agreed, func(h map[string]any, s []byte) []byte { h["url"] = a.srv.URL + "/order"; return s },
			"unauthorized"},
		"other algorithm": {agreed, func(h map[string]any, s []byte) []byte { h["alg"] = "none"; return s },
			"badSignatureAlgorithm"},
		"jwk and kid": {agreed, func(h map[string]any, s []byte) []byte { h["kid"] = a.accountURL(0); return s },
			"malformed"},
		"no key": {agreed, func(h map[string]any, s []byte) []byte { delete(h, "jwk"); return s }, "malformed"},
		"invalid point": {agreed, func(h map[string]any, s []byte) []byte {
			h["jwk"] = map[string]string{"kty": "EC", "crv": "P-256"}
			return s
		}, "badPublicKey"},
		"nonce recorded": {agreed, func(h map[string]any, s []byte) []byte {
			used,
				_ = h["nonce"].(string)
			h["alg"] = "RS256"
			return s
		}, "badSignatureAlgorithm"},
	} {
		if status, kind, _ := c.post("/account", test.payload, test.edit); status < 400 || kind != test.kind {
			t.Errorf("%s: %d %q, want %q", name, status, kind, test.kind)
		}
	}
	if _, kind, _ := c.post("/account", agreed,
		func(h map[string]any, s []byte) []byte { h["nonce"] = used; return s }); kind != "badNonce" {
		t.Errorf("a nonce is accepted twice: %q", kind)
	}
	status, kind, location := c.post("/account", agreed, nil)
	if status != 201 {
		t.Fatalf("valid request: %d %q", status, kind)
	}
	c.kid = location
	const order = `{"identifiers":[{"type":"dns","value":"a.example"}]}`
	for n := range 2 {
		if status, kind, _ = c.post("/order", order, nil); status != 201 {
			t.Fatalf("order %d: %d %q", n, status, kind)
		}
	}
	other := &client{t: t, a: a, http: c.http, key: newKey(t)}
	_, _, other.kid = other.post("/account", agreed, nil)
	for _, path := range []string{"/order/0", "/authz/0", "/challenge/0", "/finalize/0", "/cert/0", "/order/9",
		"/order/x"} {
		if status, _, _ := other.post(path, "", nil); status != 404 {
			t.Errorf("%s of another account: %d, want 404", path, status)
		}
	}
	if _, kind, _ := c.post("/finalize/0", csr(t, newKey(t), "a.example"), nil); kind != "orderNotReady" {
		t.Errorf("finalize before the challenge: %q", kind)
	}
	answer = a.orders[0].token + "." + thumbprint(&other.key.PublicKey)
	c.post("/challenge/0", "{}", nil)
	if _, kind, _ := c.post("/finalize/0", csr(t, newKey(t), "a.example"), nil); kind != "orderNotReady" {
		t.Errorf("finalize after a challenge response of another account: %q", kind)
	}
	answer = a.orders[1].token + "." + thumbprint(&c.key.PublicKey)
	c.post("/challenge/1", "{}", nil)
	for name, body := range map[string]string{
		"garbage": "{}", "other name": csr(t, newKey(t), "b.example"),
		"two names": csr(t, newKey(t), "a.example", "b.example"), "account's key": csr(t, c.key, "a.example"),
	} {
		if _, kind, _ := c.post("/finalize/1", body, nil); kind != "badCSR" {
			t.Errorf("%s: %q, want badCSR", name, kind)
		}
	}
	if status, kind, _ := c.post("/finalize/1", csr(t, newKey(t), "a.example"), nil); status != 200 || a.Issued() != 1 {
		t.Errorf("valid request: %d %q, %d issued", status, kind, a.Issued())
	}
}
