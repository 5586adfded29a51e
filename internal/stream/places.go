package stream

import (
	"sync"

	"livego/internal/live"
)

// places counts how many viewers each pass has let in, by every protocol and in every stream. Its lock is the last: no other is taken
// under it.
type places struct {
	mu    sync.Mutex
	taken map[live.Pass]int
}

// Reserve takes n places of those that p has, for viewers whom the hub does not see as one viewer each. It fails with Limit, and takes
// none, where fewer are left. A pass without a limit has any number. Release gives them back.
func (h *Hub) Reserve(p live.Pass, n int) error {
	if p.Max <= 0 || n <= 0 {
		return nil
	}
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	if h.places.taken[p] > p.Max-n {
		return live.Refuse(live.Limit, live.TokenViewerLimit, "token viewer limit reached (%d)", p.Max)
	}
	h.places.taken[p] += n
	return nil
}

// Release gives back n places that Reserve took.
func (h *Hub) Release(p live.Pass, n int) {
	if p.Max <= 0 || n <= 0 {
		return
	}
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	if h.places.taken[p] -= n; h.places.taken[p] <= 0 {
		delete(h.places.taken, p)
	}
}
