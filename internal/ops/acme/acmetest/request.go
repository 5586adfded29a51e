package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
)

// A problem is an error document of the authority (6.7).
type problem struct {
	status     int
	kind, text string
}

func (r *problem) Error() string { return r.kind + ": " + r.text }

func newProblem(status int, kind, format string, args ...any) error {
	return &problem{status, kind, fmt.Sprintf(format, args...)}
}

// maxRequest is the largest request, in bytes.
const maxRequest = 64 << 10

// A request is a request that an account has signed.
type request struct {
	account int // its index, -1 for a new one
	key     *ecdsa.PublicKey
	payload []byte // empty for a POST-as-GET (6.3)
}

// protectedHeader is the header of a signed request (6.2).
type protectedHeader struct {
	Alg   string           `json:"alg"`
	Nonce string           `json:"nonce"`
	URL   string           `json:"url"`
	JWK   *json.RawMessage `json:"jwk"`
	Kid   string           `json:"kid"`
}

// readRequest returns a request whose signature, nonce and URL are valid. The caller holds a.mu.
func (a *Authority) readRequest(r *http.Request) (request, error) {
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/jose+json" {
		return request{}, newProblem(415, "malformed", "%s with %q", r.Method, r.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil {
		return request{}, err
	}
	var jws struct{ Protected, Payload, Signature string }
	if err := json.Unmarshal(body, &jws); err != nil {
		return request{}, newProblem(400, "malformed", "%v", err)
	}
	var h protectedHeader
	if err := json.Unmarshal(decodeBase64(jws.Protected), &h); err != nil {
		return request{}, newProblem(400, "malformed", "the header: %v", err)
	}
	if !a.nonces[h.Nonce] {
		return request{}, newProblem(400, "badNonce", "nonce %q is unknown or used", h.Nonce)
	}
	delete(a.nonces, h.Nonce)
	if h.Alg != "ES256" {
		return request{}, newProblem(400, "badSignatureAlgorithm", "%s", h.Alg)
	}
	if h.URL != a.srv.URL+r.URL.Path {
		return request{}, newProblem(401, "unauthorized", "the request is signed for %s", h.URL)
	}
	req := request{payload: decodeBase64(jws.Payload)}
	if req.account, req.key, err = a.signer(h, r.URL.Path); err != nil {
		return request{}, err
	}
	if !verifySignature(req.key, jws.Protected+"."+jws.Payload, decodeBase64(jws.Signature)) {
		return request{}, newProblem(401, "unauthorized", "the signature is wrong")
	}
	return req, nil
}

// signer returns the account and key that a header names: a key for a new account, else the
// account's URL (6.2).
func (a *Authority) signer(h protectedHeader, path string) (int, *ecdsa.PublicKey, error) {
	if (h.JWK == nil) == (h.Kid == "") || (h.JWK != nil) != (path == "/account") {
		return 0, nil, newProblem(400, "malformed", "a new account needs a jwk, other requests a kid")
	}
	if h.JWK != nil {
		key, err := parseJWK(*h.JWK)
		for i, known := range a.accounts {
			if err == nil && known.Equal(key) {
				return i, key, nil
			}
		}
		return -1, key, err
	}
	for i, key := range a.accounts {
		if h.Kid == a.accountURL(i) {
			return i, key, nil
		}
	}
	return 0, nil, newProblem(400, "accountDoesNotExist", "%s", h.Kid)
}

// parseJWK parses a P-256 key (RFC 7518, 6.2.1).
func parseJWK(text []byte) (*ecdsa.PublicKey, error) {
	var jwk struct{ Kty, Crv, X, Y string }
	if err := json.Unmarshal(text, &jwk); err != nil || jwk.Kty != "EC" || jwk.Crv != "P-256" {
		return nil, newProblem(400, "badPublicKey", "%s", text)
	}
	point := append([]byte{4}, append(decodeBase64(jwk.X), decodeBase64(jwk.Y)...)...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, newProblem(400, "badPublicKey", "%v", err)
	}
	return key, nil
}

// thumbprint returns the account's thumbprint in the response to a challenge (RFC 7638).
func thumbprint(key *ecdsa.PublicKey) string {
	point, err := key.Bytes()
	if err != nil { // parseJWK returned it
		panic(err)
	}
	x, y := point[1:33], point[33:]
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + encodeBase64(x) + `","y":"` + encodeBase64(y) + `"}`))
	return encodeBase64(sum[:])
}

// verifySignature reports whether key has signed text by ES256 (RFC 7518, 3.4).
func verifySignature(key *ecdsa.PublicKey, text string, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	sum := sha256.Sum256([]byte(text))
	return ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

// certificateRequest returns the CSR of a request to finalize o (7.4).
func certificateRequest(req request, o *order) (*x509.CertificateRequest, error) {
	var body struct{ CSR string }
	if err := json.Unmarshal(req.payload, &body); err != nil {
		return nil, newProblem(400, "malformed", "%v", err)
	}
	csr, err := x509.ParseCertificateRequest(decodeBase64(body.CSR))
	if err == nil {
		err = csr.CheckSignature()
	}
	switch {
	case err != nil:
		return nil, newProblem(400, "badCSR", "%v", err)
	case len(csr.DNSNames) != 1 || csr.DNSNames[0] != o.domain ||
		len(csr.IPAddresses)+len(csr.EmailAddresses)+len(csr.URIs) > 0:
		return nil, newProblem(400, "badCSR", "the CSR is for %v, the order for %s", csr.DNSNames, o.domain)
	case req.key.Equal(csr.PublicKey):
		return nil, newProblem(400, "badCSR", "the CSR has the account's key") // 11.1
	}
	return csr, nil
}

func encodeBase64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decodeBase64 returns nil for text that is not base64url without padding (6.1).
func decodeBase64(text string) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil
	}
	return b
}
