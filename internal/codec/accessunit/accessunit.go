// Package accessunit joins the parts of access units. Some encoders send each NAL unit, or each
// slice of a picture, as a separate frame, and every output would make a picture of each. The
// package knows H.264 and HEVC, and no container.
package accessunit

import (
	"slices"
	"time"

	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/nal"
	"livego/internal/media"
)

const (
	maxAccessUnit = 8 << 20  // bytes of a joined access unit; what follows is a separate frame
	maxPrefix     = 64 << 10 // bytes of NAL units that wait for their picture

	defaultInterval = 40 * time.Millisecond // between two pictures, until it is known
	maxInterval     = time.Second
)

// A Joiner joins the parts of access units of one publisher. The zero Joiner is ready to use. It is
// not safe for concurrent use.
//
// A frame continues the picture before it if it has the same DTS, no NAL unit before its first
// slice starts an access unit, and that slice belongs to the same picture: by ITU-T H.264 clause
// 7.4.1.2.4 and first_mb_in_slice, or by H.265's first_slice_segment_in_pic_flag. NAL units that
// come without a slice precede the next picture, and are sent with it.
//
// A picture is held only if the encoder is known to send parts, or if it is the first of its track:
// until the next message that is not part of it, or for maxWait.
type Joiner struct {
	tracks    map[uint8]*track // of video, by Track.ID
	held      *media.Frame
	heldTrack *track // track of held
	owned     bool   // the memory of held.Payload holds nothing else
	out       []*media.Frame
}

// A track is the state of a video track.
type track struct {
	media      *media.Track
	lengthSize int
	sets       h264.ParameterSets // of H.264

	last     time.Duration // DTS of the newest picture
	slice    []byte        // its first slice, nil: none yet
	complete bool          // one of its parts starts at macroblock 0 (H.264); known after two parts
	interval time.Duration // between the newest two pictures
	splits   bool          // the encoder sends parts
	prefix   *media.Frame  // NAL units that precede the next picture
}

// Add adds the frames of one message, in order, if there are any, and returns the frames that are
// complete. The slice is valid until the next call.
func (j *Joiner) Add(frames []*media.Frame) []*media.Frame {
	clear(j.out)
	j.out = j.out[:0]
	if len(frames) == 0 {
		j.release()
	}
	for _, f := range frames {
		j.add(f)
	}
	return j.out
}

// Flush returns the held picture, nil if there is none.
func (j *Joiner) Flush() *media.Frame {
	f := j.held
	j.held, j.heldTrack = nil, nil
	return f
}

// maxWait returns how long the held picture may wait for more parts: half the time between two
// pictures. It is 0 if none is held.
func (j *Joiner) maxWait() time.Duration {
	if j.held == nil {
		return 0
	}
	return j.heldTrack.interval / 2
}

func (j *Joiner) release() {
	if f := j.Flush(); f != nil {
		j.out = append(j.out, f)
	}
}

func (j *Joiner) add(f *media.Frame) {
	t := j.track(f)
	if t == nil {
		j.release()
		j.out = append(j.out, f)
		return
	}
	p := t.scan(f.Payload)
	continues := t.continues(f, p)
	switch {
	case continues && (p.slice != nil || j.heldTrack == t):
		t.splits = t.splits || p.slice != nil
		j.extend(t, f)
	case p.slice == nil:
		j.release()
		t.keepPrefix(f)
	default:
		j.release()
		j.startPicture(t, f, p)
	}
}

// track returns the state of f's track, nil if its codec has no NAL units.
func (j *Joiner) track(f *media.Frame) *track {
	if f.Track.Codec != media.H264 && f.Track.Codec != media.HEVC {
		return nil
	}
	t := j.tracks[f.Track.ID]
	if t == nil {
		if j.tracks == nil {
			j.tracks = make(map[uint8]*track)
		}
		t = &track{interval: defaultInterval}
		j.tracks[f.Track.ID] = t
	}
	if t.media != f.Track {
		t.configure(f.Track)
	}
	return t
}

// configure sets a new configuration. Parts from before it do not join what follows.
func (t *track) configure(m *media.Track) {
	t.media, t.slice, t.prefix, t.sets = m, nil, nil, h264.ParameterSets{}
	t.lengthSize = 4
	switch m.Codec {
	case media.H264:
		if c, err := h264.ParseConfig(m.Config); err == nil {
			t.lengthSize = c.LengthSize
			for _, set := range append(c.SPS, c.PPS...) {
				t.sets.Add(set)
			}
		}
	case media.HEVC:
		if c, err := h265.ParseConfig(m.Config); err == nil {
			t.lengthSize = c.LengthSize
		}
	}
}

// A part describes the position of a frame's NAL units in an access unit.
type part struct {
	slice      []byte // the first slice, nil: there is none
	header     bool   // ParseSlice can read it (H.264)
	first      bool   // it is the first slice of its picture (HEVC)
	startsUnit bool   // a NAL unit before it always starts an access unit
}

func (t *track) scan(payload []byte) part {
	var p part
	for {
		unit, rest, err := nal.Next(payload, t.lengthSize)
		if unit == nil || err != nil {
			return p
		}
		payload = rest
		var isSlice, starts bool
		if t.media.Codec == media.H264 {
			var header bool
			isSlice, header = h264.IsSlice(unit)
			starts = h264.StartsAccessUnit(unit)
			if isSlice && p.slice == nil {
				p.header = header
			}
			t.sets.Add(unit)
		} else {
			var first bool
			isSlice, first = h265.IsSlice(unit)
			starts = h265.StartsAccessUnit(unit)
			if isSlice && p.slice == nil {
				p.first = first
			}
		}
		if p.slice == nil {
			p.startsUnit = p.startsUnit || starts
			if isSlice {
				p.slice = unit
			}
		}
	}
}

// continues reports whether f, described by p, is part of the newest picture.
func (t *track) continues(f *media.Frame, p part) bool {
	switch {
	case t.slice == nil || t.prefix != nil || f.DTS != t.last || p.startsUnit:
		return false
	case p.slice == nil:
		return true
	case t.media.Codec == media.HEVC:
		return !p.first
	case !p.header:
		return true
	}
	a, b := t.sets.ParseSlice(t.slice), t.sets.ParseSlice(p.slice)
	t.complete = t.complete || a.FirstMB == 0
	if !a.SamePicture(b) || b.FirstMB == 0 && t.complete {
		return false
	}
	t.complete = t.complete || b.FirstMB == 0
	return true
}

// extend adds f to the held picture. If that was already sent, f alone is held.
func (j *Joiner) extend(t *track, f *media.Frame) {
	h := j.held
	if j.heldTrack != t || len(h.Payload)+len(f.Payload) > maxAccessUnit {
		j.release()
		j.hold(t, f, false)
		return
	}
	if !j.owned {
		h.Payload, j.owned = slices.Clip(h.Payload), true
	}
	h.Payload = append(h.Payload, f.Payload...)
	if f.RAP == media.Keyframe || h.RAP == media.NoRandomAccess {
		h.RAP = f.RAP
	}
	h.Leading = h.Leading || f.Leading
	h.KeyFlag = h.KeyFlag || f.KeyFlag
	h.Arrived = f.Arrived
}

func (j *Joiner) hold(t *track, f *media.Frame, owned bool) {
	j.held, j.heldTrack, j.owned = f, t, owned
}

// startPicture handles a frame that starts a picture.
func (j *Joiner) startPicture(t *track, f *media.Frame, p part) {
	known := t.slice != nil
	if step := f.DTS - t.last; known && 0 < step && step <= maxInterval {
		t.interval = step
	}
	t.last, t.slice, t.complete = f.DTS, p.slice, false
	pre := t.prefix
	if pre != nil {
		t.prefix = nil
		f.Payload = append(slices.Clip(pre.Payload), f.Payload...)
		if f.RAP == media.NoRandomAccess {
			f.RAP = pre.RAP
		}
	}
	if known && !t.splits {
		j.out = append(j.out, f)
		return
	}
	j.hold(t, f, pre != nil)
}

// keepPrefix keeps f, which has no slice, for the next picture.
func (t *track) keepPrefix(f *media.Frame) {
	if pre := t.prefix; pre != nil && len(pre.Payload)+len(f.Payload) <= maxPrefix {
		pre.Payload = append(slices.Clip(pre.Payload), f.Payload...)
		if f.RAP != media.NoRandomAccess {
			pre.RAP = f.RAP
		}
		return
	}
	if len(f.Payload) <= maxPrefix {
		t.prefix = f
	}
}
