package redis

import (
	"sync"
	"time"

	"livego/internal/live"
)

// maxSeen bounds the keys that are remembered: about 4 MB.
const maxSeen = 10_000

// seen remembers keys that were good lately.
type seen struct {
	keep time.Duration // 0: nothing is remembered

	mu   sync.Mutex
	keys map[[32]byte]sighting
}

type sighting struct {
	key live.Key
	at  time.Time
}

// put notes k as Redis has it; a zero k is none.
func (s *seen) put(k live.Key, now time.Time) {
	if s.keep <= 0 || k.ID == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[[32]byte]sighting{}
	}
	if len(s.keys) >= maxSeen {
		for d, old := range s.keys {
			if now.Sub(old.at) >= s.keep {
				delete(s.keys, d)
			}
		}
		for d := range s.keys {
			if len(s.keys) < maxSeen {
				break
			}
			delete(s.keys, d)
		}
	}
	s.keys[k.Digest] = sighting{k, now}
}

// get returns a key that was seen lately.
func (s *seen) get(digest [32]byte, now time.Time) (live.Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[digest]
	return k.key, ok && now.Sub(k.at) < s.keep
}
