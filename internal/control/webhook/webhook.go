// Package webhook calls the operator's programs by HTTP: an Authorizer asks them who may publish
// and play, and an Outbox delivers events to them from a queue on disk. It executes no programs,
// and no stream ever waits for it.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"livego/internal/ops/tracing"
)

const (
	// maxResponse is the longest response body that is read, in bytes.
	maxResponse = 64 << 10
	// maxRequests bounds the concurrent requests about publishers, and those about players.
	maxRequests = 64
)

// Headers of a request. The signature is "v1=" and the HMAC-SHA256, in hexadecimal, of
// ID.TIME.BODY. The receiver checks the signature, that the time is within five minutes of its own,
// and that it has not received the ID before.
const (
	headerID        = "Livego-Id"
	headerTime      = "Livego-Timestamp" // Unix seconds of this attempt
	headerSignature = "Livego-Signature"
)

// A client sends signed requests.
type client struct {
	http   *http.Client
	secret []byte
}

func newClient(secret string, timeout time.Duration) *client {
	transport := &http.Transport{
		DialContext: (&net.Dialer{Timeout: timeout}).DialContext, TLSHandshakeTimeout: timeout, MaxIdleConnsPerHost: 4,
		IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxResponse,
	}
	return &client{&http.Client{
		Timeout: timeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, []byte(secret)}
}

// newID returns the ID of a request or an event.
func newID() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (c *client) sign(id, at string, body []byte) string {
	m := hmac.New(sha256.New, c.secret)
	m.Write([]byte(id + "." + at + "."))
	m.Write(body)
	return "v1=" + hex.EncodeToString(m.Sum(nil))
}

var errResponseTooLarge = errors.New("response exceeds the limit of 64 KiB")

// A response is the response to a request.
type response struct {
	status    int
	body      []byte
	maxAge    time.Duration // how long it may be cached (Cache-Control: max-age, RFC 9111, 5.2.2.1); 0: not at all
	hasMaxAge bool          // Cache-Control says how long, or that it may not be cached
}

// maxAge bounds how long a decision is cached, whatever the response says.
const maxAge = time.Hour

// parseMaxAge returns max-age of Cache-Control; 0 when it is invalid, or another directive forbids
// caching. found is false when the header has none of these directives.
func parseMaxAge(h http.Header) (age time.Duration, found bool) {
	for d := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(d)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0, true
		case "max-age":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return 0, true
			}
			age, found = min(time.Duration(n)*time.Second, maxAge), true
		}
	}
	return age, found
}

// post sends the JSON body and returns the response. The error does not contain the URL, which may
// hold a secret.
func (c *client) post(ctx context.Context, url, id string, body []byte) (response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return response{}, errors.New("invalid URL")
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "livego")
	tracing.Inject(ctx, r.Header)
	r.Header.Set(headerID, id)
	r.Header.Set(headerTime, at)
	r.Header.Set(headerSignature, c.sign(id, at, body))
	resp, err := c.http.Do(r)
	if err != nil {
		return response{}, errors.Unwrap(err) // of *url.Error, which contains the URL
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case err != nil:
		return response{}, fmt.Errorf("read response: %w", err)
	case len(answer) > maxResponse:
		return response{}, errResponseTooLarge
	}
	age, aged := parseMaxAge(resp.Header)
	return response{resp.StatusCode, answer, age, aged}, nil
}

// mustJSON encodes our own plain structs, which cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
