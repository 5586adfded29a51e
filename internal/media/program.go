package media

import (
	"cmp"
	"slices"
)

// A Program is the track set of a stream: its tracks, and the default track of each kind, which
// viewers get unless they request all tracks. It is immutable: a change makes a new Program, to
// which later frames point. The zero Program has no tracks.
type Program struct {
	// Tracks are those that a decoder can use so far, ordered by kind and ID. Shared: do not modify.
	Tracks []*Track
	// Discontinuity rises at each join of the timeline.
	Discontinuity uint32

	// Awaited are kinds without a track, of which one is expected to come soon.
	Awaited Kinds

	defaults [Data + 1]uint16 // by kind: the ID of the default track, plus one; 0: none
}

// Kinds is a set of track kinds.
type Kinds uint8

// KindsOf returns the set of kinds.
func KindsOf(kinds ...Kind) (s Kinds) {
	for _, k := range kinds {
		s |= 1 << k
	}
	return s
}

// Has reports whether k is in s.
func (s Kinds) Has(k Kind) bool { return s&(1<<k) != 0 }

// NewProgram returns a Program of tracks. The default of a kind is the track with the lowest ID.
func NewProgram(tracks ...*Track) *Program {
	p := new(Program)
	for _, t := range tracks {
		p = p.With(t)
		if id, ok := p.DefaultID(t.Kind); !ok || t.ID < id {
			p = p.WithDefault(t)
		}
	}
	return p
}

// Kinds returns the kinds of which p has a track.
func (p *Program) Kinds() (s Kinds) {
	for _, t := range p.Tracks {
		s |= KindsOf(t.Kind)
	}
	return s
}

// Has reports whether p has a track of kind k.
func (p *Program) Has(k Kind) bool { return p.Kinds().Has(k) }

// Track returns the track of that kind and ID, nil if there is none.
func (p *Program) Track(k Kind, id uint8) *Track {
	if i, ok := p.find(k, id); ok {
		return p.Tracks[i]
	}
	return nil
}

// Default returns the default track of kind k, nil if there is none.
func (p *Program) Default(k Kind) *Track {
	if id, ok := p.DefaultID(k); ok {
		return p.Track(k, id)
	}
	return nil
}

// Defaults returns the default tracks, ordered by kind.
func (p *Program) Defaults() []*Track {
	return slices.DeleteFunc(slices.Clone(p.Tracks), func(t *Track) bool { return !p.IsDefault(t) })
}

// DefaultID returns the ID of the default track of kind k; false if the kind has none. The track
// may not be in Tracks yet.
func (p *Program) DefaultID(k Kind) (id uint8, ok bool) {
	return uint8(p.defaults[k] - 1), p.defaults[k] != 0
}

// IsDefault reports whether t has the kind and ID of a default track.
func (p *Program) IsDefault(t *Track) bool { return p.defaults[t.Kind] == uint16(t.ID)+1 }

// With returns p with t in the place of its track of the same kind and ID; p itself if it has t.
func (p *Program) With(t *Track) *Program {
	if slices.Contains(p.Tracks, t) {
		return p
	}
	q := *p
	i, replace := p.find(t.Kind, t.ID)
	end := i
	if replace {
		end++
	}
	q.Tracks = slices.Concat(p.Tracks[:i], []*Track{t}, p.Tracks[end:])
	return &q
}

// WithDefault returns p with t's ID as that of the default track of its kind.
func (p *Program) WithDefault(t *Track) *Program {
	if p.IsDefault(t) {
		return p
	}
	q := *p
	q.defaults[t.Kind] = uint16(t.ID) + 1
	return &q
}

// WithDiscontinuity returns p with another discontinuity number.
func (p *Program) WithDiscontinuity(n uint32) *Program {
	if p.Discontinuity == n {
		return p
	}
	q := *p
	q.Discontinuity = n
	return &q
}

// WithAwaited returns p with other awaited kinds.
func (p *Program) WithAwaited(kinds Kinds) *Program {
	if p.Awaited == kinds {
		return p
	}
	q := *p
	q.Awaited = kinds
	return &q
}

// find returns where in Tracks the track of that kind and ID is, or would be.
func (p *Program) find(k Kind, id uint8) (i int, ok bool) {
	return slices.BinarySearchFunc(p.Tracks, id, func(t *Track, id uint8) int {
		return cmp.Or(cmp.Compare(t.Kind, k), cmp.Compare(t.ID, id))
	})
}
