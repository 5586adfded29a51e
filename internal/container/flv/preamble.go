package flv

import (
	"bytes"

	"livego/internal/media"
)

// A Preamble knows what one viewer has been sent of what must precede frames: onMetaData and
// sequence headers. The zero value has sent nothing.
type Preamble struct {
	Dialect Dialect // of the viewer

	started bool
	meta    *media.Meta
	tracks  []*media.Track // whose headers went out last, one per kind and ID
}

// Ready reports that nothing has to precede f.
func (p *Preamble) Ready(f *media.Frame) bool {
	if !p.started || f.Meta != p.meta {
		return false
	}
	for _, t := range p.tracks {
		if t == f.Track {
			return true
		}
	}
	return false
}

// Append appends to dst what has to precede f: at the start onMetaData and the headers of all known
// tracks, later what has changed. known are the tracks that the viewer gets, as far as they are
// known; it may be nil later. The time of onMetaData is always 0: with any other, ffmpeg makes a
// subtitle track of it.
func (p *Preamble) Append(dst []Tag, f *media.Frame, known []*media.Track) []Tag {
	if p.Ready(f) {
		return dst
	}
	var bodies []Tag // the time stamps come last
	if !p.started {
		for _, t := range known {
			if p.sameTrack(t, f.Track) {
				t = f.Track
			}
			bodies = p.setTrack(bodies, t)
		}
	}
	bodies = p.setTrack(bodies, f.Track)
	p.started, p.meta = true, f.Meta
	dst = append(dst, Tag{Type: TypeScriptData, Body: p.Dialect.metaData(f.Meta, p.tracks...)})
	for _, b := range bodies {
		b.Timestamp = Timestamp(f)
		dst = append(dst, b)
	}
	return dst
}

// setTrack makes t the present track of its kind and ID. It appends what has to precede its frames.
func (p *Preamble) setTrack(dst []Tag, t *media.Track) []Tag {
	var old *media.Track
	for i, present := range p.tracks {
		if p.sameTrack(present, t) {
			old, p.tracks[i] = present, t
		}
	}
	switch {
	case old == t:
		return dst
	case old == nil:
		p.tracks = append(p.tracks, t)
	}
	described := old != nil && !bytes.Equal(old.ColorInfo, t.ColorInfo) && old.Codec == t.Codec &&
		bytes.Equal(old.Config, t.Config)
	if h := p.Dialect.SequenceHeader(t); h != nil && !described { // what is but described anew needs no new decoder
		dst = append(dst, Tag{Type: MessageType(t.Kind), Body: h})
	}
	if c := p.Dialect.colorMetadata(t); c != nil {
		dst = append(dst, Tag{Type: MessageType(t.Kind), Body: c})
	}
	return dst
}

// sameTrack reports whether a and b are one to the viewer: of a kind, and of an ID where he gets more than one.
func (p *Preamble) sameTrack(a, b *media.Track) bool {
	return a.Kind == b.Kind && (a.ID == b.ID || !p.Dialect.Multitrack)
}
