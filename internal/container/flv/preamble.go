package flv

import (
	"bytes"
	"slices"

	"livego/internal/media"
)

// A Preamble tracks which onMetaData and sequence headers one viewer has received, and appends the
// missing ones before frames. The zero value has sent nothing.
type Preamble struct {
	Dialect Dialect // the viewer's

	started bool
	meta    *media.Meta
	tracks  []*media.Track // by kind and ID, those whose headers were sent last
}

// Ready reports that f needs no messages before it.
func (p *Preamble) Ready(f *media.Frame) bool {
	return p.started && f.Meta == p.meta && slices.Contains(p.tracks, f.Track)
}

// Append appends to dst the messages that must precede f: at the start onMetaData and the headers
// of program, later only what changed. program is the newest of the stream: it has the tracks that
// come after f too. The timestamp of onMetaData is always 0: with any other, ffmpeg makes a
// subtitle track of it.
func (p *Preamble) Append(dst []Tag, f *media.Frame, program *media.Program) []Tag {
	if p.Ready(f) {
		return dst
	}
	var bodies []Tag // without timestamps
	if !p.started {
		for _, t := range p.Dialect.Tracks(program) {
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

// AppendChanges is Append, but appends nothing at the start. It is for frames that many viewers share:
// each gets the messages of its start from Dialect.Preamble.
func (p *Preamble) AppendChanges(dst []Tag, f *media.Frame, program *media.Program) []Tag {
	n, started := len(dst), p.started
	if dst = p.Append(dst, f, program); !started {
		return dst[:n]
	}
	return dst
}

// Preamble returns the messages that must precede f for a viewer that starts with it, as
// Preamble.Append does.
func (d Dialect) Preamble(f *media.Frame, program *media.Program) []Tag {
	p := Preamble{Dialect: d}
	return p.Append(nil, f, program)
}

// setTrack makes t the current track of its kind and ID, and appends the messages that must precede
// its frames.
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
	// new color information alone does not restart the decoder
	if h := p.Dialect.SequenceHeader(t); h != nil && !described {
		dst = append(dst, Tag{Type: MessageType(t.Kind), Body: h})
	}
	if c := p.Dialect.colorMetadata(t); c != nil {
		dst = append(dst, Tag{Type: MessageType(t.Kind), Body: c})
	}
	return dst
}

// sameTrack reports whether a and b are the same track for the viewer: of one kind, and of one ID
// if the viewer receives several tracks of a kind.
func (p *Preamble) sameTrack(a, b *media.Track) bool {
	return a.Kind == b.Kind && (a.ID == b.ID || !p.Dialect.Multitrack)
}
