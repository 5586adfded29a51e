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
	"time"
)

const (
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 10
	// maxAsking bounds the questions that are under way.
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

// post sends body, which is JSON, and returns the status and the answer. The error says nothing of the URL, which may hold a secret.
func (c *client) post(ctx context.Context, url, id string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, errors.New("the URL is none")
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "livego")
	r.Header.Set(headerID, id)
	r.Header.Set(headerTime, at)
	r.Header.Set(headerSignature, c.sign(id, at, body))
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, nil, errors.Unwrap(err) // of *url.Error, which has the URL
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("reading the answer: %w", err)
	case len(answer) > maxAnswer:
		return 0, nil, errLong
	}
	return resp.StatusCode, answer, nil
}

// mustJSON is for values of ours, which are plain.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
