package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
)

// jwksServer answers requests for a JWKS from memory.
type jwksServer struct {
	mu       sync.Mutex
	kids     []string
	delay    time.Duration // an answer; it ends early with the request
	requests int
}

func (p *jwksServer) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.requests++
	takes := p.delay
	p.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 255)...))
	var body bytes.Buffer
	for i, kid := range p.kids {
		fmt.Fprintf(&body, `%s{"kty":"RSA","kid":%q,"n":%q,"e":"AQAB"}`, []string{`{"keys":[`, ","}[min(i, 1)], kid, n)
	}
	body.WriteString("]}")
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(&body), Request: r}, nil
}

func (p *jwksServer) set(takes time.Duration, kids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.kids = takes, kids
}

// run runs the keys of p in a bubble of synctest until the function that it returns is called.
func (p *jwksServer) run(t *testing.T) (j *JWKS, stop func()) {
	t.Helper()
	j = NewJWKS("http://keys.example/", slog.New(slog.DiscardHandler))
	j.client.Transport = p
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.Run(ctx)
	}()
	return j, func() {
		cancel()
		<-done
	}
}

// TestUnknownKeyIsRefusedAtOnce shows made-up kids: they are refused at once, but for those that
// come while keys are being fetched.
func TestUnknownKeyIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &jwksServer{kids: []string{"old", "other"}}
		j, stop := p.run(t)
		defer stop()
		took := func(kid string, want bool) time.Duration {
			t.Helper()
			began := time.Now()
			if k, err := j.key(t.Context(), kid); (k != nil) != want || !want && domain.CodeOf(err) != domain.TokenInvalid {
				t.Errorf("key %q: %v, %v", kid, k, err)
			}
			return time.Since(began)
		}
		synctest.Wait()
		for n := range 1000 {
			if d := took(fmt.Sprint("made up ", n), false); d != 0 {
				t.Fatalf("made-up key %d held its request for %v", n, d)
			}
		}
		if p.requests != 1 {
			t.Errorf("the publisher was asked %d times, want once", p.requests)
		}
		time.Sleep(jwksMinInterval)
		p.set(time.Second, "new", "other")
		if d := took("new", true); d != time.Second {
			t.Errorf("a new key took %v, want the time of one answer", d)
		}
		if d := took("made up", false); d != 0 || p.requests != 2 {
			t.Errorf("after it a made-up key took %v, and the publisher was asked %d times", d, p.requests)
		}
	})
}

// TestUnknownKeysWaitForFetch shows many made-up kids while the publisher does not answer: few
// wait, and those whose key is known do not.
func TestUnknownKeysWaitForFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &jwksServer{kids: []string{"old", "other"}}
		j, stop := p.run(t)
		defer stop()
		synctest.Wait()
		time.Sleep(jwksMinInterval)
		p.set(time.Hour)
		var wg sync.WaitGroup
		var mu sync.Mutex
		held := 0
		for n := range 10 * maxJWKSWaiters {
			wg.Go(func() {
				began := time.Now()
				if _, err := j.key(t.Context(), fmt.Sprint(n)); err == nil {
					t.Error("a made-up key is good")
				}
				mu.Lock()
				defer mu.Unlock()
				if d := time.Since(began); d > jwksTimeout {
					t.Errorf("held for %v", d)
				} else if d > 0 {
					held++
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		if k, err := j.key(t.Context(), "old"); k == nil || time.Since(began) != 0 {
			t.Errorf("a known key: %v after %v", err, time.Since(began))
		}
		wg.Wait()
		if held != maxJWKSWaiters {
			t.Errorf("%d requests were held, want %d", held, maxJWKSWaiters)
		}
		synctest.Wait()
		began = time.Now()
		if _, err := j.key(t.Context(), "one more"); err == nil || time.Since(began) != 0 {
			t.Errorf("after the failure a made-up key took %v", time.Since(began))
		}
	})
}
