// Package webhook tells programs of the operator's what happens, by HTTP: it asks them who may
// publish and play (Gate), and brings them events from a box on the disk (Outbox). It runs nothing,
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
)

const (
	// maxResponse bounds what is read of an answer, in bytes.
	maxResponse = 64 << 10
	// maxRequests bounds the questions that are under way about publishers, and those about players.
	maxRequests = 64
)

// Headers of a request. The signature is "v1=" and the HMAC-SHA256, in hexadecimal, of
// ID.TIME.BODY. Who receives it checks the signature, that the time is within five minutes of his,
// and that he has not had the ID.
const (
	headerID        = "Livego-Id"
	headerTime      = "Livego-Timestamp" // Unix seconds of this try
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

// newID returns what a request or an event is known by.
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

var errResponseTooLarge = errors.New("an answer of more than 64 KiB")

// A response is what came back of a request that was answered.
type response struct {
	status    int
	body      []byte
	maxAge    time.Duration // how long it may be kept (Cache-Control: max-maxAge, RFC 9111, 5.2.2.1); 0: not at all
	hasMaxAge bool          // it says how long, or that it may not
}

// maxAge bounds how long an answer is kept, whatever it says.
const maxAge = time.Hour

// parseMaxAge reads max-age of a header; 0 where it is not plain, or another directive forbids to
// keep the answer. said is false where the header has neither.
func parseMaxAge(h http.Header) (age time.Duration, said bool) {
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
			age, said = min(time.Duration(n)*time.Second, maxAge), true
		}
	}
	return age, said
}

// post sends body, which is JSON, and returns the answer. The error says nothing of the URL, which may hold a secret.
func (c *client) post(ctx context.Context, url, id string, body []byte) (response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return response{}, errors.New("the URL is none")
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "livego")
	r.Header.Set(headerID, id)
	r.Header.Set(headerTime, at)
	r.Header.Set(headerSignature, c.sign(id, at, body))
	resp, err := c.http.Do(r)
	if err != nil {
		return response{}, errors.Unwrap(err) // of *url.Error, which has the URL
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case err != nil:
		return response{}, fmt.Errorf("reading the answer: %w", err)
	case len(answer) > maxResponse:
		return response{}, errResponseTooLarge
	}
	age, aged := parseMaxAge(resp.Header)
	return response{resp.StatusCode, answer, age, aged}, nil
}

// mustJSON is for values of ours, which are plain.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
