// Package hook tells programs of the operator's what happens, by HTTP: it asks them who may publish and play (Gate), and brings them
// events from a box on the disk (Outbox). It runs nothing, and no stream ever waits for it.
package hook

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
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 10
	// maxAsking bounds the questions that are under way about publishers, and those about players.
	maxAsking = 64
)

// Headers of a request. The signature is "v1=" and the HMAC-SHA256, in hexadecimal, of ID.TIME.BODY. Who receives it checks the
// signature, that the time is within five minutes of his, and that he has not had the ID.
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
		IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer,
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

var errLong = errors.New("an answer of more than 64 KiB")

// A reply is what came back of a request that was answered.
type reply struct {
	status int
	body   []byte
	age    time.Duration // how long it may be kept (Cache-Control: max-age, RFC 9111, 5.2.2.1); 0: not at all
	aged   bool          // it says how long, or that it may not
}

// maxAge bounds how long an answer is kept, whatever it says.
const maxAge = time.Hour

// ageOf reads max-age of a header; 0 where it is not plain, or another directive forbids to keep the answer. said is false where
// the header has neither.
func ageOf(h http.Header) (age time.Duration, said bool) {
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
func (c *client) post(ctx context.Context, url, id string, body []byte) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return reply{}, errors.New("the URL is none")
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "livego")
	r.Header.Set(headerID, id)
	r.Header.Set(headerTime, at)
	r.Header.Set(headerSignature, c.sign(id, at, body))
	resp, err := c.http.Do(r)
	if err != nil {
		return reply{}, errors.Unwrap(err) // of *url.Error, which has the URL
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return reply{}, fmt.Errorf("reading the answer: %w", err)
	case len(answer) > maxAnswer:
		return reply{}, errLong
	}
	age, aged := ageOf(resp.Header)
	return reply{resp.StatusCode, answer, age, aged}, nil
}

// mustJSON is for values of ours, which are plain.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
