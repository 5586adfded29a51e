package auth

import (
	"sync"

	"livego/internal/domain"
)

// viewerLimits implements domain.ViewerLimiter. Its lock is the last one: no other lock is taken
// under it.
type viewerLimits struct {
	mu   sync.Mutex
	used map[domain.ViewerLimit]int
}

func (v *viewerLimits) ReserveViewers(l domain.ViewerLimit, n int) error {
	if l.Max <= 0 || n <= 0 {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.used[l] > l.Max-n {
		return domain.CodeErrorf(domain.Limit, domain.TokenViewerLimit, "token viewer limit reached (%d)", l.Max)
	}
	v.used[l] += n
	return nil
}

func (v *viewerLimits) ReleaseViewers(l domain.ViewerLimit, n int) {
	if l.Max <= 0 || n <= 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.used[l] -= n; v.used[l] <= 0 {
		delete(v.used, l)
	}
}
