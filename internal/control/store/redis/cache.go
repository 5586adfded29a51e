package redis

import (
	"sync"
	"time"

	"livego/internal/domain"
)

// maxCachedKeys bounds the keys that are remembered: about 4 MB.
const maxCachedKeys = 10_000

// keyCache remembers keys that were good lately.
type keyCache struct {
	ttl time.Duration // 0: nothing is remembered

	mu   sync.Mutex
	keys map[[32]byte]cachedKey
}

type cachedKey struct {
	key domain.Key
	at  time.Time
}

// put notes k as Redis has it; a zero k is none.
func (s *keyCache) put(k domain.Key, now time.Time) {
	if s.ttl <= 0 || k.ID == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[[32]byte]cachedKey{}
	}
	if len(s.keys) >= maxCachedKeys {
		for d, old := range s.keys {
			if now.Sub(old.at) >= s.ttl {
				delete(s.keys, d)
			}
		}
		for d := range s.keys {
			if len(s.keys) < maxCachedKeys {
				break
			}
			delete(s.keys, d)
		}
	}
	s.keys[k.Digest] = cachedKey{k, now}
}

// get returns a key that was seen lately.
func (s *keyCache) get(digest [32]byte, now time.Time) (domain.Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[digest]
	return k.key, ok && now.Sub(k.at) < s.ttl
}
