package redis

import (
	"sync"
	"time"

	"livego/internal/domain"
)

// maxCachedKeys bounds the cached keys: about 4 MB.
const maxCachedKeys = 10_000

// keyCache caches keys that were valid recently.
type keyCache struct {
	ttl time.Duration // 0: nothing is cached

	mu   sync.Mutex
	keys map[[32]byte]cachedKey
}

type cachedKey struct {
	key domain.Key
	at  time.Time
}

// put caches k as Redis has it; a zero k is ignored.
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

// get returns a key that was valid within the last ttl.
func (s *keyCache) get(digest [32]byte, now time.Time) (domain.Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[digest]
	return k.key, ok && now.Sub(k.at) < s.ttl
}
