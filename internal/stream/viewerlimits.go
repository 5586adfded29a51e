package stream

import (
	"sync"

	"livego/internal/domain"
)

// viewerLimits counts how many viewers each pass has let in, by every protocol and in every stream.
// Its lock is the last: no other is taken under it.
type viewerLimits struct {
	mu   sync.Mutex
	used map[domain.ViewerLimit]int
}

// ReserveViewers takes n places of those that p has, for viewers whom the hub does not see as one
// viewer each. It fails with Limit, and takes none, where fewer are left. A pass without a limit
// has any number. Release gives them back.
func (h *Hub) ReserveViewers(p domain.ViewerLimit, n int) error {
	if p.Max <= 0 || n <= 0 {
		return nil
	}
	h.viewerLimits.mu.Lock()
	defer h.viewerLimits.mu.Unlock()
	if h.viewerLimits.used[p] > p.Max-n {
		return domain.CodeErrorf(domain.Limit, domain.TokenViewerLimit, "token viewer limit reached (%d)", p.Max)
	}
	h.viewerLimits.used[p] += n
	return nil
}

// ReleaseViewers gives back n places that Reserve took.
func (h *Hub) ReleaseViewers(p domain.ViewerLimit, n int) {
	if p.Max <= 0 || n <= 0 {
		return
	}
	h.viewerLimits.mu.Lock()
	defer h.viewerLimits.mu.Unlock()
	if h.viewerLimits.used[p] -= n; h.viewerLimits.used[p] <= 0 {
		delete(h.viewerLimits.used, p)
	}
}
