package media

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// SkipReason is why media of a publisher reaches no viewer, in a word for programs.
type SkipReason string

// Skip reasons.
const (
	SkipMalformed   SkipReason = "malformed"        // an unreadable message, picture or audio frame
	SkipUnit        SkipReason = "damaged_unit"     // a part of a picture; the rest is kept
	SkipNoPicture   SkipReason = "no_picture"       // a video message without a picture
	SkipNoConfig    SkipReason = "no_configuration" // a frame before the configuration of its track
	SkipBadConfig   SkipReason = "bad_configuration"
	SkipUnsupported SkipReason = "unsupported" // a codec or packet type that livego does not know
	SkipLimit       SkipReason = "limit"       // more or larger than livego accepts
	SkipMetadata    SkipReason = "metadata"    // script data or color info that cannot be read
)

const (
	maxUnusable     = 32  // unusable tracks that are kept
	maxUnusableText = 200 // bytes of a reason
)

// A Skip is one item that was skipped.
type Skip struct {
	Kind   Kind // 0 if it belongs to no track
	Reason SkipReason
	Err    error
}

// An UnusableTrack is a track of a publisher that no viewer gets.
type UnusableTrack struct {
	Kind   Kind
	ID     uint8
	Codec  string // the publisher's name for it
	Cause  SkipReason
	Reason string // for people
}

// Skips counts media of a publisher that reaches no viewer, and lists its unusable tracks. It is
// safe for concurrent use, but its functions must be set before the first use. A nil Skips counts
// nothing.
type Skips struct {
	OnFirst    func(Skip)          // called at the first of each kind and reason; may be nil
	OnUnusable func(UnusableTrack) // called when a track becomes unusable; may be nil

	mu       sync.Mutex
	counts   map[SkipReason]uint64
	seen     map[Skip]bool // without Err
	silent   uint64
	unusable []UnusableTrack
}

// NewSkips returns Skips that log the first skip of each kind and reason, and each unusable track.
func NewSkips(log *slog.Logger) *Skips {
	return &Skips{
		OnFirst: func(s Skip) {
			log.Warn("media skipped", "kind", s.Kind.String(), "reason", string(s.Reason), "err", s.Err)
		},
		OnUnusable: func(t UnusableTrack) {
			log.Warn("track is unusable", "kind", t.Kind.String(), "track", t.ID, "codec", t.Codec, "reason", t.Reason)
		},
	}
}

// Add counts s.
func (c *Skips) Add(s Skip) {
	if c == nil {
		return
	}
	key := Skip{Kind: s.Kind, Reason: s.Reason}
	c.mu.Lock()
	if c.counts == nil {
		c.counts, c.seen = make(map[SkipReason]uint64), make(map[Skip]bool)
	}
	c.counts[s.Reason]++
	first := !c.seen[key]
	c.seen[key] = true
	c.mu.Unlock()
	if first && c.OnFirst != nil {
		c.OnFirst(s)
	}
}

// AddSilent counts an audio frame without content.
func (c *Skips) AddSilent() {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.silent++
	c.mu.Unlock()
}

// SetUnusable records that t is unusable. Repeated calls change nothing.
func (c *Skips) SetUnusable(t UnusableTrack) {
	if c == nil {
		return
	}
	t.Reason = t.Reason[:min(len(t.Reason), maxUnusableText)]
	c.mu.Lock()
	i := c.find(t.Kind, t.ID)
	fresh := i < 0 && len(c.unusable) < maxUnusable
	switch {
	case fresh:
		c.unusable = append(c.unusable, t)
	case i >= 0 && c.unusable[i] != t:
		c.unusable[i] = t
	}
	c.mu.Unlock()
	if fresh && c.OnUnusable != nil {
		c.OnUnusable(t)
	}
}

// SetUsable records that a track is usable now.
func (c *Skips) SetUsable(k Kind, id uint8) {
	if c == nil {
		return
	}
	c.mu.Lock()
	if i := c.find(k, id); i >= 0 {
		c.unusable = slices.Delete(c.unusable, i, i+1)
	}
	c.mu.Unlock()
}

// find returns the index of an unusable track, -1 if there is none. The caller holds mu.
func (c *Skips) find(k Kind, id uint8) int {
	return slices.IndexFunc(c.unusable, func(t UnusableTrack) bool { return t.Kind == k && t.ID == id })
}

// SkipStats holds the counts of Skips.
type SkipStats struct {
	Skipped  map[SkipReason]uint64 // nil if there were none
	Silent   uint64                // audio frames without content, which count as silence
	Unusable []UnusableTrack
}

// Total returns the sum of Skipped.
func (s SkipStats) Total() (n uint64) {
	for _, c := range s.Skipped {
		n += c
	}
	return n
}

// Stats returns the counts.
func (c *Skips) Stats() SkipStats {
	if c == nil {
		return SkipStats{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return SkipStats{maps.Clone(c.counts), c.silent, slices.Clone(c.unusable)}
}
