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
	minModulus  = 2048 // bits: less is broken
	maxModulus  = 8192 // more costs a token more time to check than it is worth
)

const (
	jwksRefresh     = 15 * time.Minute // how often it is fetched
	jwksRetry       = 10 * time.Second // after a failure
	jwksMinInterval = 30 * time.Second // how soon again because of a key that is not known
	// maxJWKSWaiters bounds the requests that wait for a fetch: a key that is new at the publisher's is first seen by few.
	maxJWKSWaiters = 64
)

// A JWKS is the RSA keys that somebody publishes at a URL (RFC 7517). Tokens name one by kid; where
// they ask to fetch keys from (jku, x5u) is not looked at.
type JWKS struct {
	url    string
	client *http.Client
	log    *slog.Logger
	wake   chan struct{}

	mu       sync.Mutex
	keys     map[string]*rsa.PublicKey
	fetched  chan struct{} // closed and replaced after each try
	fetching bool          // a try is under way
	next     time.Time     // when a key that is not known may cause the next try
	waiting  int           // requests that wait for it
}

// NewJWKS returns the keys at url. Run fetches them.
func NewJWKS(url string, log *slog.Logger) *JWKS {
	return &JWKS{
		url: url, log: log, wake: make(chan struct{}, 1), fetched: make(chan struct{}),
		client: &http.Client{
			Timeout:       jwksTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a redirect") },
		},
	}
}

// Run keeps the keys up to date until ctx ends. While they cannot be fetched those that are known stay good.
func (j *JWKS) Run(ctx context.Context) {
	for ctx.Err() == nil {
		pause := jwksRefresh
		j.mu.Lock()
		j.fetching = true
		select { // this is the try that was asked for
		case <-j.wake:
		default:
		}
		j.mu.Unlock()
		keys, err := j.fetch(ctx)
		if err != nil {
			pause = jwksRetry
			j.log.Warn("the keys of tokens cannot be fetched", "err", err)
		}
		j.mu.Lock()
		if err == nil {
			j.keys = keys
		}
		close(j.fetched)
		j.fetched = make(chan struct{})
		// made-up tokens cannot have us ask all the time
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

// key returns the key called kid; the only one for "". One that is not known is refused at once,
// unless keys are being fetched, or may be again: then it may be a new one, and is waited for as
// long as a fetch may take. A wait is worth something once in jwksMinInterval, so tokens with
// made-up names hold nothing up.
func (j *JWKS) key(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	unknown := invalid("its key (kid) is not known")
	k, fetched := j.findOrWait(kid)
	if k != nil {
		return k, nil
	}
	if fetched == nil {
		return nil, unknown
	}
	defer j.stopWaiting()
	timeout := time.NewTimer(jwksTimeout)
	defer timeout.Stop()
	select {
	case <-fetched:
		if k := j.find(kid); k != nil {
			return k, nil
		}
	case <-timeout.C:
	case <-ctx.Done():
	}
	return nil, unknown
}

// findOrWait returns the key called kid, or, where a try that is under way or due may bring it,
// what is closed after that try; the caller then counts as waiting. It returns nil for both where
// there is nothing to wait for.
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
		return nil, fmt.Errorf("more than %d KiB", maxJWKS>>10)
	}
	return parseJWKS(data)
}

// parseJWKS returns the keys that can check a signature by RS256, by kid. It passes over others.
func parseJWKS(data []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []struct{ Kty, Use, Alg, Kid, N, E string }
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("no JWKS")
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
			return nil, fmt.Errorf("two keys have one kid")
		}
		keys[k.Kid] = &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no RSA key of at least 2048 bits")
	}
	return keys, nil
}
