package auth

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"sync"
	"time"
)

// Limits of a JWKS.
const (
	jwksTimeout = 3 * time.Second
	maxJWKS     = 64 << 10 // bytes
	maxKeys     = 64
	minModulus  = 2048 // bits; smaller keys are broken
	maxModulus  = 8192 // bits; larger keys cost too much time for each token
)

const (
	jwksRefresh     = 15 * time.Minute // between two fetches
	jwksRetry       = 10 * time.Second // after a failed fetch
	jwksMinInterval = 30 * time.Second // between two fetches that unknown keys cause
	// maxJWKSWaiters bounds the requests that wait for a fetch. Few requests are the first with a
	// new key.
	maxJWKSWaiters = 64
)

// A JWKS holds the RSA keys that a URL publishes (RFC 7517). Tokens select a key by kid. URLs in a
// token (jku, x5u) are ignored.
type JWKS struct {
	url    string
	client *http.Client
	log    *slog.Logger
	wake   chan struct{}

	mu       sync.Mutex
	keys     map[string]*rsa.PublicKey
	fetched  chan struct{} // closed and replaced after each fetch
	fetching bool          // a fetch is in progress
	next     time.Time     // the earliest time of a fetch because of an unknown key
	waiting  int           // requests that wait for fetched
}

// NewJWKS returns the keys at url. Run fetches them.
func NewJWKS(url string, log *slog.Logger) *JWKS {
	return &JWKS{
		url: url, log: log, wake: make(chan struct{}, 1), fetched: make(chan struct{}),
		client: &http.Client{
			Timeout:       jwksTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("unexpected redirect") },
		},
	}
}

// URL returns the URL of the keys.
func (j *JWKS) URL() string { return j.url }

// Run keeps the keys up to date until ctx ends. While a fetch fails the known keys stay valid.
func (j *JWKS) Run(ctx context.Context) {
	for ctx.Err() == nil {
		pause := jwksRefresh
		j.mu.Lock()
		j.fetching = true
		select { // this fetch is the requested one
		case <-j.wake:
		default:
		}
		j.mu.Unlock()
		keys, err := j.fetch(ctx)
		if err != nil {
			pause = jwksRetry
			j.log.Warn("cannot fetch token keys", "err", err)
		}
		j.mu.Lock()
		if err == nil {
			j.keys = keys
		}
		close(j.fetched)
		j.fetched = make(chan struct{})
		// Made-up tokens must not cause a fetch each.
		j.fetching, j.next = false, time.Now().Add(min(jwksMinInterval, pause))
		j.mu.Unlock()

		select {
		case <-time.After(pause):
		case <-ctx.Done():
		case <-j.wake:
		}
	}
	j.client.CloseIdleConnections()
}

// key returns the key called kid; for "" the only one. An unknown key is refused at once unless a
// fetch is in progress or allowed again: then it may be a new key, and key waits as long as a fetch
// may take. One fetch per jwksMinInterval is caused this way, so tokens with made-up names delay
// nothing.
func (j *JWKS) key(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	unknown := invalid("unknown key (kid)")
	k, fetched := j.findOrWait(kid)
	if k != nil {
		return k, nil
	}
	if fetched == nil {
		return nil, unknown
	}
	defer j.stopWaiting()
	select {
	case <-fetched:
		if k := j.find(kid); k != nil {
			return k, nil
		}
	case <-time.After(jwksTimeout):
	case <-ctx.Done():
	}
	return nil, unknown
}

// findOrWait returns the key called kid or, when a fetch that is in progress or allowed may bring
// it, a channel that is closed after that fetch; the caller then counts as waiting and must call
// stopWaiting. It returns nil for both when there is nothing to wait for.
func (j *JWKS) findOrWait(kid string) (*rsa.PublicKey, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if k := j.findLocked(kid); k != nil {
		return k, nil
	}
	if !j.fetching && time.Now().Before(j.next) || j.waiting >= maxJWKSWaiters {
		return nil, nil
	}
	j.waiting++
	if !j.fetching {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
	return nil, j.fetched
}

func (j *JWKS) stopWaiting() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting--
}

func (j *JWKS) find(kid string) *rsa.PublicKey {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.findLocked(kid)
}

// findLocked is find for a caller that holds mu.
func (j *JWKS) findLocked(kid string) *rsa.PublicKey {
	if kid == "" && len(j.keys) == 1 {
		for _, k := range j.keys {
			return k
		}
	}
	return j.keys[kid]
}

func (j *JWKS) fetch(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := j.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxJWKS {
		return nil, fmt.Errorf("response exceeds the limit of %d KiB", maxJWKS>>10)
	}
	return parseJWKS(data)
}

// parseJWKS returns the keys that can verify RS256 signatures, by kid, and ignores others.
func parseJWKS(data []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []struct{ Kty, Use, Alg, Kid, N, E string }
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("not a JWKS")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		if k.Kty != "RSA" || k.Use != "" && k.Use != "sig" || k.Alg != "" && k.Alg != "RS256" {
			continue
		}
		n, err1 := base64.RawURLEncoding.DecodeString(k.N)
		e, err2 := base64.RawURLEncoding.DecodeString(k.E)
		modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
		if err1 != nil || err2 != nil || modulus.BitLen() < minModulus || modulus.BitLen() > maxModulus ||
			exponent.BitLen() > 31 || exponent.Int64() < 3 || exponent.Int64()%2 == 0 {
			continue
		}
		if _, twice := keys[k.Kid]; twice {
			return nil, fmt.Errorf("duplicate kid")
		}
		keys[k.Kid] = &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
	}
	if len(keys) == 0 {
		return nil, errors.New("no RSA key of at least 2048 bits")
	}
	return keys, nil
}
