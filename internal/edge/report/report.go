// Package report receives what players report about playback, at /.livego/report?CMCD=...: a GET, so that a page of any
// origin can send it without a preflight request, and a connection for media can carry it. It stores nothing.
package report

import (
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"livego/internal/ops/netx"
	"livego/internal/proto/cmcd"
	"livego/internal/quality"
)

const (
	// addressRate and addressBurst bound the reports from one address, in a second and at once: a school of 1,000 viewers
	// sends 34 a second.
	addressRate  = 50
	addressBurst = 1000
	// addressLimits is how many limits there are. Addresses with the same hash share one, so that any number of
	// addresses takes 450 KiB.
	addressLimits = 4096
)

// A Handler receives reports.
type Handler struct {
	collector *quality.Collector
	seed      maphash.Seed
	loopback  bool
	limited   atomic.Uint64

	mu     sync.Mutex
	limits [addressLimits]*rate.Limiter // nil before the first report
}

// New returns a Handler of reports for c. limitLoopback applies the limit of an address to this machine too, on which a
// proxy may have any number of viewers behind it.
func New(c *quality.Collector, limitLoopback bool) *Handler {
	return &Handler{collector: c, seed: maphash.MakeSeed(), loopback: limitLoopback}
}

// ServeHTTP answers 204 for a report, 410 to a player that must not report again before it has connected to the stream
// again, 429 if the address has sent too many, and 400 if it is no report.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !h.allow(netx.ClientAddr(r)) {
		h.limited.Add(1)
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many reports from this address", http.StatusTooManyRequests)
		return
	}
	d, ok := cmcd.ParseQuery(r.URL.RawQuery)
	switch {
	case !ok || d.Session == "":
		http.Error(w, "invalid report: want CMCD with a sid", http.StatusBadRequest)
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusNoContent)
	case h.collector.Report(&d) == quality.Refused:
		http.Error(w, "no viewer has this session, or the server wants no report", http.StatusGone)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// Limited returns how many reports were refused because their address had sent too many.
func (h *Handler) Limited() uint64 { return h.limited.Load() }

// allow counts a report of an address, and reports whether it is within the limit.
func (h *Handler) allow(addr netip.Addr) bool {
	if addr.IsLoopback() && !h.loopback {
		return true
	}
	i := maphash.Comparable(h.seed, netx.AddressPrefix(addr)) % addressLimits
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.limits[i] == nil {
		h.limits[i] = rate.NewLimiter(addressRate, addressBurst)
	}
	return h.limits[i].Allow()
}
