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
	delay    time.Duration // before a reply; it ends early with the request
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

// run runs a JWKS of p in a synctest bubble until stop is called.
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

// TestUnknownKeyIsRefusedAtOnce checks that made-up kids are refused without a wait, except while
// keys are being fetched.
func TestUnknownKeyIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &jwksServer{kids: []string{"old", "other"}}
		j, stop := p.run(t)
		defer stop()
		elapsed := func(kid string, want bool) time.Duration {
			t.Helper()
			start := time.Now()
			if k, err := j.key(t.Context(), kid); (k != nil) != want || !want && domain.CodeOf(err) != domain.TokenInvalid {
				t.Errorf("key %q: %v, %v", kid, k, err)
			}
			return time.Since(start)
		}
		synctest.Wait()
		for n := range 1000 {
			if d := elapsed(fmt.Sprint("made up ", n), false); d != 0 {
				t.Fatalf("made-up key %d delayed its request for %v", n, d)
			}
		}
		if p.requests != 1 {
			t.Errorf("%d fetches, want 1", p.requests)
		}
		time.Sleep(jwksMinInterval)
		p.set(time.Second, "new", "other")
		if d := elapsed("new", true); d != time.Second {
			t.Errorf("a new key took %v, want the time of one reply", d)
		}
		if d := elapsed("made up", false); d != 0 || p.requests != 2 {
			t.Errorf("then a made-up key took %v, and there were %d fetches", d, p.requests)
		}
	})
}

// TestUnknownKeysWaitForFetch checks that only a few of many made-up kids wait while the JWKS
// server does not answer, and that known keys do not wait.
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
				start := time.Now()
				if _, err := j.key(t.Context(), fmt.Sprint(n)); err == nil {
					t.Error("a made-up key is accepted")
				}
				mu.Lock()
				defer mu.Unlock()
				if d := time.Since(start); d > jwksTimeout {
					t.Errorf("delayed for %v", d)
				} else if d > 0 {
					held++
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		if k, err := j.key(t.Context(), "old"); k == nil || time.Since(start) != 0 {
			t.Errorf("a known key: %v after %v", err, time.Since(start))
		}
		wg.Wait()
		if held != maxJWKSWaiters {
			t.Errorf("%d requests were delayed, want %d", held, maxJWKSWaiters)
		}
		synctest.Wait()
		start = time.Now()
		if _, err := j.key(t.Context(), "one more"); err == nil || time.Since(start) != 0 {
			t.Errorf("after the failed fetch a made-up key took %v", time.Since(start))
		}
	})
}
