// Package report receives what players report about playback, at /.livego/report?CMCD=...: a GET, so that a page of any
// origin can send it without a preflight request, and a connection for media can carry it. It stores nothing.
package report

import (
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/ops/netx"
	"livego/internal/proto/cmcd"
	"livego/internal/quality"
)

// Path is where reports are received.
const Path = "/.livego/report"

const (
	// addressRate and addressBurst bound the reports from one address, in a second and at once: a school of 1,000 viewers
	// sends 34 a second.
	addressRate  = 50
	addressBurst = 1000
	// addressBuckets is how many limits there are. Addresses with the same hash share one, so that any number of
	// addresses takes 64 KiB.
	addressBuckets = 4096
)

// A Handler receives reports.
type Handler struct {
	collector *quality.Collector
	seed      maphash.Seed
	start     time.Time
	loopback  bool
	limited   atomic.Uint64

	mu     sync.Mutex
	limits [addressBuckets]bucket
}

// A bucket has what an address may send.
type bucket struct {
	used float64
	at   time.Duration // since the start
}

// New returns a Handler of reports for c. limitLoopback applies the limit of an address to this machine too, on which a
// proxy may have any number of viewers behind it.
func New(c *quality.Collector, limitLoopback bool) *Handler {
	return &Handler{collector: c, seed: maphash.MakeSeed(), start: time.Now(), loopback: limitLoopback}
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
	i := maphash.Comparable(h.seed, netx.AddressPrefix(addr)) % addressBuckets
	now := time.Since(h.start)
	h.mu.Lock()
	defer h.mu.Unlock()
	b := &h.limits[i]
	b.used = max(0, b.used-addressRate*(now-b.at).Seconds())
	b.at = now
	if b.used+1 > addressBurst {
		return false
	}
	b.used++
	return true
}
