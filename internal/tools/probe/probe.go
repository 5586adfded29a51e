// Package probe examines a file or a live stream. It reports the contents, which of livego's
// outputs support each track, and the problems that viewers would have. For problems that ffmpeg
// can repair it returns the command. It changes nothing.
package probe

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"livego/internal/container/fmp4"
	"livego/internal/container/ts"
	"livego/internal/media"
	"livego/internal/source"
)

// Verdicts, best first.
const (
	Fine       = "fine"
	Playable   = "playable with remarks"
	Unplayable = "not playable"
)

// A Report is the result of Inspect. Times are in seconds, rates in bit/s.
type Report struct {
	Source    string  `json:"source"`
	Container string  `json:"container"`
	Live      bool    `json:"live,omitempty"`
	Size      int64   `json:"size,omitempty"` // bytes
	Duration  float64 `json:"duration,omitempty"`
	BitRate   int64   `json:"bit_rate,omitempty"`
	Seen      float64 `json:"seen"` // how much of it was examined
	Whole     bool    `json:"whole"`

	Tracks        []*Track `json:"tracks"`
	Remarks       []Remark `json:"remarks"`
	Verdict       string   `json:"verdict"`
	RepairCommand string   `json:"mend,omitempty"` // the command that repairs everything that can be

	readErr  error // why the rest could not be read, nil if it was
	examined examination
}

// A Track is the part of a Report about one track.
type Track struct {
	Kind      string  `json:"kind"`
	Codec     string  `json:"codec"` // "h264", or the name of a codec that livego does not know
	Profile   string  `json:"profile,omitempty"`
	RFC6381   string  `json:"rfc6381,omitempty"`
	Width     int     `json:"width,omitempty"`
	Height    int     `json:"height,omitempty"`
	BitDepth  int     `json:"bit_depth,omitempty"`
	Rotation  int     `json:"rotation,omitempty"`   // degrees clockwise
	FrameRate float64 `json:"frame_rate,omitempty"` // as measured
	Variable  bool    `json:"variable_frame_rate,omitempty"`
	Reordered bool    `json:"b_frames,omitempty"`
	GOP       float64 `json:"gop,omitempty"`       // the longest
	KeyAt     float64 `json:"first_key,omitempty"` // the first keyframe, since the first frame
	Keys      int     `json:"key_frames,omitempty"`

	SampleRate int `json:"sample_rate,omitempty"`
	Channels   int `json:"channels,omitempty"`

	Frames   int     `json:"frames"`
	Start    float64 `json:"start"` // presentation time of the first frame
	Duration float64 `json:"duration,omitempty"`
	BitRate  int64   `json:"bit_rate,omitempty"`
	Changes  int     `json:"changes,omitempty"` // changes of the configuration

	// RTMP and HTTP-FLV: "yes", "enhanced" (needs Enhanced RTMP), "old" (old players) or "no".
	RTMP string `json:"rtmp"`
	FMP4 string `json:"hls_fmp4"` // "yes" or "no"
	TS   string `json:"hls_ts"`

	track  *media.Track
	stream media.Stream
	stats  frameStats
}

// A Remark is one problem that viewers will notice, or that an output does not support.
type Remark struct {
	Code          string `json:"code"`
	Fatal         bool   `json:"fatal,omitempty"` // push rejects the file
	Text          string `json:"text"`
	RepairCommand string `json:"mend,omitempty"` // the command that repairs it; "" if there is none

	repair repair
}

// frameStats are statistics over the frames of a track.
type frameStats struct {
	bytes                    int64
	first, end               time.Duration // presentation
	lastDTS, highest         time.Duration
	minInterval, maxInterval time.Duration // distances of decoding times
	firstKey, lastKey        time.Duration
	gop                      time.Duration
	jumps                    int
	jumpAt, jumpBy           time.Duration
	largest                  int
}

// Options of an inspection.
type Options struct {
	All  bool          // read large files to the end
	Live time.Duration // how long to examine a live stream; 0: defaultLive
	Part time.Duration // how much of a file to read; 0: depends on All
}

// defaultLive is how long a live stream is examined.
const defaultLive = 6 * time.Second

const (
	largeFile   = 256 << 20        // a file of this many bytes is not read to the end,
	firstPart   = 60 * time.Second // but up to this time
	maxLiveWait = 14 * time.Second // how much longer than it lasts the examination of a live stream may take
)

// Inspect examines s. It returns an error if ctx ends or if nothing could be read. A truncated
// source is a remark.
func Inspect(ctx context.Context, s *source.Source, o Options) (*Report, error) {
	r := &Report{Source: s.Name, Container: s.Container, Live: s.Live, Size: s.Size, Remarks: []Remark{},
		Tracks: []*Track{}}
	for _, st := range s.Streams() {
		r.Tracks = append(r.Tracks, newTrack(st))
	}
	limit := time.Duration(math.MaxInt64)
	switch {
	case s.Live:
		limit = cmp.Or(o.Live, defaultLive)
	case o.Part > 0:
		limit = o.Part
	case s.Size > largeFile && !o.All:
		limit = firstPart
	}
	err := r.read(ctx, s, limit)
	var cut *source.TruncatedError
	if err != nil && !errors.As(err, &cut) {
		if ctx.Err() != nil || !r.hasFrames() {
			return nil, err
		}
		r.readErr = withoutFileName(err)
	}
	r.finish(s, cut)
	r.addRemarks(s, cut)
	return r, nil
}

// hasFrames reports whether any track had a frame.
func (r *Report) hasFrames() bool {
	return slices.ContainsFunc(r.Tracks, func(t *Track) bool { return t.Frames > 0 })
}

// withoutFileName returns err without the name of its file.
func withoutFileName(err error) error {
	if e, ok := errors.AsType[*source.FileError](err); ok {
		return e.Err
	}
	return err
}

// read observes frames until there are no more, or limit is reached.
func (r *Report) read(ctx context.Context, s *source.Source, limit time.Duration) error {
	var begin time.Duration
	started := time.Now()
	for n := 0; ; n++ {
		f, err := s.Next()
		switch {
		case err == io.EOF:
			r.Whole = !s.Live
			return nil
		case err != nil && s.Live && n > 0: // the stream ended or stalled during the examination
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
		if n == 0 {
			begin = f.DTS
		}
		if f.Track.Kind == media.Data {
			continue
		}
		r.trackOf(f).observe(f)
		r.examined.observe(f, s.Live)
		if at := f.DTS - begin; at > limit || s.Live && time.Since(started) > limit+maxLiveWait {
			return nil
		}
	}
}

func newTrack(st media.Stream) *Track { return &Track{track: st.Track, stream: st} }

// trackOf returns the track of f, which it adds if it is new.
func (r *Report) trackOf(f *media.Frame) *Track {
	for _, t := range r.Tracks {
		if t.track.Kind == f.Track.Kind && t.track.ID == f.Track.ID {
			return t
		}
	}
	t := newTrack(media.Stream{Track: f.Track})
	r.Tracks = append(r.Tracks, t)
	return t
}

// timestampJump is the step of timestamps that counts as a jump. Frames of audio and of slow
// video are closer together.
const timestampJump = time.Second

func (t *Track) observe(f *media.Frame) {
	s := &t.stats
	if t.Frames == 0 {
		s.first, s.end, s.highest = f.PTS, f.PTS, f.PTS
	} else {
		t.observeInterval(f)
		if f.Track != t.track {
			t.Changes++
		}
	}
	t.track = f.Track
	if f.PTS < s.highest {
		t.Reordered = true
	}
	s.highest = max(s.highest, f.PTS)
	s.lastDTS = f.DTS
	s.first = min(s.first, f.PTS)
	s.end = max(s.end, f.PTS+f.Duration)
	s.bytes += int64(len(f.Payload))
	s.largest = max(s.largest, len(f.Payload))
	t.Frames++
	if t.track.Kind == media.Video {
		t.observeKeyframe(f)
	}
}

// observeInterval observes the interval between f and the frame before it.
func (t *Track) observeInterval(f *media.Frame) {
	s := &t.stats
	d := f.DTS - s.lastDTS
	if d > timestampJump+f.Duration || d < -time.Millisecond {
		if s.jumps++; s.jumps == 1 {
			s.jumpAt, s.jumpBy = s.lastDTS, d
		}
		s.lastKey += d // the jump is a remark of its own
		return
	}
	if s.minInterval == 0 || d < s.minInterval {
		s.minInterval = d
	}
	s.maxInterval = max(s.maxInterval, d)
}

func (t *Track) observeKeyframe(f *media.Frame) {
	s := &t.stats
	if f.RAP == media.NoRandomAccess {
		if t.Keys > 0 {
			s.gop = max(s.gop, f.DTS-s.lastKey)
		}
		return
	}
	if t.Keys == 0 {
		s.firstKey = f.PTS
	} else if d := f.DTS - s.lastKey; d < timestampJump*600 {
		s.gop = max(s.gop, d)
	}
	s.lastKey = f.DTS
	t.Keys++
}

// finish derives the fields of the report from the statistics.
func (r *Report) finish(s *source.Source, cut *source.TruncatedError) {
	var first, end time.Duration
	begun := false
	var bytes int64
	for _, t := range r.Tracks {
		t.finish(r.Whole)
		bytes += t.stats.bytes
		if t.Frames == 0 {
			continue
		}
		if !begun || t.stats.first < first {
			first = t.stats.first
		}
		end = max(end, t.stats.end)
		begun = true
	}
	seenFor := (end - first).Seconds()
	r.Seen = roundMicros(seenFor)
	if s.Duration > 0 { // the time hidden by an edit list does not count
		seenFor = min(seenFor, end.Seconds())
	}
	if r.Duration = roundMicros(s.Duration.Seconds()); r.Whole && r.Duration < seenFor || r.Duration == 0 && cut != nil {
		r.Duration = roundMicros(seenFor) // some indexes end at the start of the last frame
	}
	switch {
	case r.Size > 0 && r.Duration > 0:
		r.BitRate = int64(float64(r.Size) * 8 / r.Duration)
	case seenFor > 0:
		r.BitRate = int64(float64(bytes) * 8 / seenFor)
	}
}

func (t *Track) finish(whole bool) {
	m, s := t.track, &t.stats
	t.Kind, t.Codec, t.Profile, t.RFC6381 = m.Kind.String(), m.Codec.String(), m.Profile, m.RFC6381
	if m.Codec == media.Passthrough {
		t.Codec = m.Label
	}
	t.Width, t.Height, t.BitDepth, t.Rotation = m.Width, m.Height, m.BitDepth, t.stream.Rotation
	t.SampleRate, t.Channels = m.SampleRate, m.Channels
	t.Start = roundMicros(s.first.Seconds())
	length := s.end - s.first
	if m.Kind == media.Video && t.Frames > 1 {
		// The duration of the last frame may be unknown.
		span := s.highest - s.first
		t.FrameRate = math.Round(float64(t.Frames-1)/span.Seconds()*1000) / 1000
		length = max(length, span+span/time.Duration(t.Frames-1))
		t.Variable = s.maxInterval > s.minInterval+s.minInterval/5+2*time.Millisecond
	}
	if t.Duration = roundMicros(length.Seconds()); t.Frames == 0 || !whole && t.stream.Duration > 0 {
		t.Duration = roundMicros(t.stream.Duration.Seconds())
	}
	switch {
	case t.Frames > 0 && length > 0:
		t.BitRate = int64(float64(s.bytes) * 8 / length.Seconds())
	case t.stream.Bytes > 0 && t.Duration > 0:
		t.BitRate = int64(float64(t.stream.Bytes) * 8 / t.Duration)
	}
	if t.Keys > 0 {
		t.KeyAt = roundMicros(max(s.firstKey-s.first, 0).Seconds())
		t.GOP = roundMicros(s.gop.Seconds())
		if t.Keys == 1 && t.GOP == 0 {
			t.GOP = t.Duration
		}
	}
	t.RTMP, t.FMP4, t.TS = OutputSupport(m, t.Frames > 0)
}

// OutputSupport returns which outputs support a track: RTMP and HTTP-FLV ("yes", "enhanced",
// "old" or "no"), HLS in fragmented MP4, and in MPEG-TS ("yes" or "no"). asTags says that the
// frames of Passthrough tracks are FLV tag bodies.
func OutputSupport(t *media.Track, asTags bool) (rtmp, mp4, mpegts string) {
	word := map[bool]string{true: "yes", false: "no"}
	rtmp = "enhanced"
	switch t.Codec {
	case media.H264, media.AAC, media.MP3:
		rtmp = "yes"
	case media.Passthrough:
		rtmp = "no"
		if asTags {
			rtmp = "old"
		}
	}
	return rtmp, word[fmp4.Carries(t)], word[ts.Carries(t)]
}

// roundMicros rounds to a millionth of a second.
func roundMicros(s float64) float64 { return math.Round(s*1e6) / 1e6 }
