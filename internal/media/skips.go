package media

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// SkipReason says why something that a publisher sent reaches no viewer, in a word for machines.
type SkipReason string

// Skip reasons.
const (
	SkipMalformed   SkipReason = "malformed"        // a message, picture or frame of sound that cannot be read
	SkipUnit        SkipReason = "damaged_unit"     // a part of a picture, which goes on without it
	SkipNoPicture   SkipReason = "no_picture"       // a message of pictures in which a decoder finds nothing to read
	SkipNoConfig    SkipReason = "no_configuration" // a frame that came before the configuration of its track
	SkipBadConfig   SkipReason = "bad_configuration"
	SkipUnsupported SkipReason = "unsupported" // a codec or kind of packet that livego does not know
	SkipLimit       SkipReason = "limit"       // more or larger than livego takes
	SkipMetadata    SkipReason = "metadata"    // script data or a description of colors that cannot be read
)

const (
	maxUnusable     = 32  // tracks that are remembered
	maxUnusableText = 200 // bytes of a reason
)

// A Skip is one thing that was skipped.
type Skip struct {
	Kind   Kind // 0 where it belongs to no track
	Reason SkipReason
	Err    error
}

// An UnusableTrack is a track that a publisher sends and no viewer gets.
type UnusableTrack struct {
	Kind   Kind
	ID     uint8
	Codec  string // as the publisher names it
	Reason string // for people
}

// Skips counts what a publisher sent that reaches no viewer, and knows which of its tracks are unusable as a
// whole. It is safe for concurrent use; the functions are set before its first use. A nil Skips counts
// nothing.
type Skips struct {
	OnFirst    func(Skip)          // called at the first of each kind and reason; nil: nobody is
	OnUnusable func(UnusableTrack) // called when a track turns out to be unusable; nil: nobody is

	mu       sync.Mutex
	counts   map[SkipReason]uint64
	seen     map[Skip]bool // without Err
	silent   uint64
	unusable []UnusableTrack
}

// NewSkips returns Skips that write the first of each kind and reason, and each unusable track, to log.
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

// AddSilent counts a frame of sound without content.
func (c *Skips) AddSilent() {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.silent++
	c.mu.Unlock()
}

// SetUnusable notes that t is unusable. Repetitions change nothing.
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

// SetUsable notes that a track is usable now.
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

// find returns where a track is among the unusable, -1 if it is not. The caller holds mu.
func (c *Skips) find(k Kind, id uint8) int {
	return slices.IndexFunc(c.unusable, func(t UnusableTrack) bool { return t.Kind == k && t.ID == id })
}

// SkipStats is what Skips has counted.
type SkipStats struct {
	Skipped  map[SkipReason]uint64 // nil where nothing was
	Silent   uint64                // frames of sound without content, which count as silence
	Unusable []UnusableTrack
}

// Total returns how much was skipped.
func (s SkipStats) Total() (n uint64) {
	for _, c := range s.Skipped {
		n += c
	}
	return n
}

// Stats returns what has been counted.
func (c *Skips) Stats() SkipStats {
	if c == nil {
		return SkipStats{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return SkipStats{maps.Clone(c.counts), c.silent, slices.Clone(c.unusable)}
}
