package flv

import "livego/internal/media"

// A Preamble knows what one viewer has been sent of what must precede frames: onMetaData and sequence headers. The zero value
// has sent nothing.
type Preamble struct {
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

// Before appends to dst what has to precede f: at the start onMetaData and the headers of all known tracks, later what has
// changed. known are the tracks that the viewer gets, as far as they are known; it may be nil later. The time of onMetaData
// is always 0: with any other, ffmpeg makes a subtitle track of it.
func (p *Preamble) Before(dst []Tag, f *media.Frame, known []*media.Track) []Tag {
	if p.Ready(f) {
		return dst
	}
	var changed []*media.Track
	if !p.started {
		for _, t := range known {
			if t.Kind == f.Track.Kind && t.ID == f.Track.ID {
				t = f.Track
			}
			if p.set(t) {
				changed = append(changed, t)
			}
		}
	}
	if p.set(f.Track) {
		changed = append(changed, f.Track)
	}
	p.started, p.meta = true, f.Meta
	ts := Timestamp(f)
	dst = append(dst, Tag{Type: TypeScript, Body: MetaData(f.Meta, p.tracks...)})
	for _, t := range changed {
		if h := SequenceHeader(t); h != nil {
			dst = append(dst, Tag{Type: MessageType(t.Kind), Timestamp: ts, Body: h})
		}
	}
	return dst
}

// set makes t the present track of its kind and ID, and reports whether it was not.
func (p *Preamble) set(t *media.Track) bool {
	for i, old := range p.tracks {
		if old.Kind == t.Kind && old.ID == t.ID {
			p.tracks[i] = t
			return old != t
		}
	}
	p.tracks = append(p.tracks, t)
	return true
}
