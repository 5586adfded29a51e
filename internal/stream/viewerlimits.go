package stream

import (
	"sync"

	"livego/internal/domain"
)

// viewerLimits counts the viewers of each viewer limit, over all protocols and streams. Its lock is
// the last one: no other lock is taken under it.
type viewerLimits struct {
	mu   sync.Mutex
	used map[domain.ViewerLimit]int
}

// ReserveViewers reserves n viewers of p, for viewers that are not one Viewer each. If fewer are
// left, it reserves none and fails with Limit. A zero p has no limit. ReleaseViewers gives them
// back.
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

// ReleaseViewers gives back n viewers that ReserveViewers reserved.
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
