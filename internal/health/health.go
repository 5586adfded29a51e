// Package health measures a stream from its frames, second by second, and finds problems of the
// encoder that viewers notice: each is a Finding with a sentence that names the setting to change. It
// decodes nothing, and it has no clock: time is that of the frames and of Analyzer.Tick, so that it
// examines files as well as live streams. It knows no hub, protocol or HTTP.
package health

import (
	"bytes"
	"math"
	"slices"
	"time"

	"livego/internal/codec"
	"livego/internal/media"
)

// HistoryLength is how many samples an Analyzer keeps: ten minutes. They take 67 kB.
const HistoryLength = 600

// A Sample describes one second of a stream: the default tracks, as they arrived.
type Sample struct {
	Time      time.Time // the end of the second
	VideoKbps float32
	AudioKbps float32
	FrameRate float32 // frames of video per second
	JitterMS  float32 // mean deviation of the last frame intervals from their median, by the encoder's timestamps
	GOP       float32 // seconds from the last keyframe to the one before, or to now if that is longer
	SkewMS    int32   // how much later the timestamps of the audio are that arrived with the video
	LagMS     int32   // how much later frames arrive than at the start of the connection, by their timestamps
	DriftMS   int32   // by how much the timestamps of audio have run ahead of its samples since the start
	ReorderMS int32   // the longest composition time
	Viewers   int32
	Protocols map[string]int // Viewers by protocol; shared: do not modify
	Behind    int32          // viewers that skipped to a newer keyframe lately
	Players   int32          // viewers whose player reports how it plays
	Stalled   int32          // of these, how many stalled in the last minute

	Keyframes    uint8
	BFrames      uint8 // the longest row of B-frames
	Jumps        uint8 // of timestamps
	AudioGaps    uint8 // and overlaps, between the timestamps of audio frames
	VideoChanges uint8 // changes of the decoder configuration
	AudioChanges uint8
	Pauses       uint8 // in the arrival of frames
	Silent       bool  // the audio is silence
	Static       bool  // the picture did not change in the second
	Damaged      uint8 // frames that were skipped

	videoFrames, audioFrames uint16
	irregular                float32 // share of the last frame intervals that differ from their median
	hasSkew, hasLag          bool
}

// Facts are what a server knows of a stream, and its frames do not say. A file has the zero Facts.
type Facts struct {
	Held              bool // no publisher: nothing is to be expected
	Viewers           int
	Protocols         map[string]int // Viewers by protocol; never modified
	Behind            int            // of these, how many skipped to a newer keyframe in the last half minute
	Playback          Playback
	Unusable          []media.UnusableTrack
	Damaged           uint64 // frames that were skipped so far because they are damaged
	ArrivalTimestamps bool   // the server replaced the timestamps
}

// Playback is what players have reported.
type Playback struct {
	Players int    // that have reported in the last minute
	Stalled int    // of these, how many stalled in the last minute
	Slow    int    // how many measured less throughput than the stream has
	Most    string // what most of those that stalled play: "HLS in Safari", "in Safari"; "" for nothing
}

// An Analyzer examines one stream. The zero Analyzer is ready. Not for concurrent use.
type Analyzer struct {
	video, audio track
	meta         *media.Meta
	arrived      time.Time // of the newest frame
	connected    time.Time // when the first frame of the publisher arrived

	cur       Sample    // of the current second
	curStart  time.Time // when it started; zero before the first Tick
	bytes     [2]int    // of video and audio in cur
	silent    uint16    // frames of silence in cur
	skew      time.Duration
	skewCount int

	history []Sample // a ring once it is full
	next    int      // where the next sample goes in the full ring

	intervals  intervals
	reordering reordering
	motion     motion
	peaks      peaks
	lag        lag
	jumpedAt   time.Time
	facts      Facts
	unusable   int // seconds in a row with an unusable track

	jumpBy                   time.Duration // of the last jump
	gapBy                    time.Duration // the last gap of audio
	videoChange, audioChange string        // what changed last
	gop, keyAt               time.Duration // stream time: the last GOP, and its end
	hasKey                   bool

	states []state // by the index of the rule
}

// A track is what is known of the default track of one kind.
type track struct {
	track         *media.Track
	lengthSize    int
	discontinuity uint32
	expected      bool // has had a frame since the publisher connected
	timed         bool // clock is valid
	clock         time.Duration
	end           time.Duration // stream time at the end of the newest frame
	arrived       time.Time
	drift         time.Duration // of audio
	duration      time.Duration // of the newest frame
	payload       []byte        // of the newest frame of audio
}

const (
	maxBack      = 20 * time.Millisecond // timestamps that go back further have jumped
	maxStep      = time.Second           // timestamps that advance so much more than arrivals have jumped
	sameJump     = 2 * time.Second       // a jump of all tracks is one
	maxAudioStep = 50 * time.Millisecond // from the end of an audio frame to the next: more is a gap, less is drift
	minPause     = 800 * time.Millisecond
)

// Observe examines a frame. clock is its DTS by the encoder's clock, arrived when it was received. For
// a file, this is any time that advances with the frames.
func (a *Analyzer) Observe(f *media.Frame, clock time.Duration, arrived time.Time) {
	t := &a.video
	switch f.Track.Kind {
	case media.Audio:
		t = &a.audio
	case media.Video:
	default:
		return
	}
	if t.track != nil && f.Track.ID != t.track.ID && f.Program == nil {
		return // another track of a file
	}
	a.meta = f.Meta
	if a.connected.IsZero() {
		a.connected = arrived
	}
	var discontinuity uint32
	if f.Program != nil {
		discontinuity = f.Program.Discontinuity
	}
	if f.Track != t.track {
		a.setTrack(t, f.Track, discontinuity, arrived)
	}
	t.discontinuity = discontinuity
	step, waited := clock-t.clock, arrived.Sub(t.arrived)
	if t.timed && !a.arrived.IsZero() && arrived.Sub(a.arrived)-max(step, 0) >= minPause {
		increment(&a.cur.Pauses)
	}
	if t.timed && (step < -maxBack || step > maxStep && step-waited > maxStep) {
		a.observeJump(t, step, arrived)
	}
	if f.Track.Kind == media.Video {
		a.observeVideo(t, f, step)
	} else {
		a.observeAudio(t, f, step)
	}
	if t == &a.video || a.video.track == nil {
		a.lag.observe(arrived, clock)
	}
	t.timed, t.expected, t.clock, t.arrived, a.arrived = true, true, clock, arrived, arrived
	t.end = f.DTS + f.Duration
}

// increment increments n, up to the largest number.
func increment(n *uint8) {
	if *n < math.MaxUint8 {
		*n++
	}
}

// setTrack makes m the track of its kind. Another publisher has other tracks, and starts another
// discontinuity.
func (a *Analyzer) setTrack(t *track, m *media.Track, discontinuity uint32, arrived time.Time) {
	old := t.track
	described := *m
	lengthSize, _ := codec.Describe(&described) // 0 after an error
	if old != nil && discontinuity != t.discontinuity {
		for _, other := range []*track{&a.video, &a.audio} {
			if other.discontinuity != discontinuity {
				other.expected, other.timed = false, false
			}
		}
		a.lag.reset()
		a.hasKey = a.hasKey && m.Kind != media.Video
		a.connected = arrived
		old = nil
	}
	*t = track{track: m, lengthSize: lengthSize, expected: t.expected, arrived: t.arrived, end: t.end}
	switch {
	case old == nil || old.SameConfig(m):
	case m.Kind == media.Video:
		increment(&a.cur.VideoChanges)
		a.videoChange = describeVideoChange(old, m)
	default:
		increment(&a.cur.AudioChanges)
		a.audioChange = describeAudioChange(old, m)
	}
}

func (a *Analyzer) observeJump(t *track, by time.Duration, arrived time.Time) {
	if a.jumpedAt.IsZero() || arrived.Sub(a.jumpedAt) > sameJump || (by-a.jumpBy).Abs() > maxStep {
		increment(&a.cur.Jumps)
	}
	a.jumpedAt, a.jumpBy = arrived, by
	t.timed = false
	a.lag.reset()
}

func (a *Analyzer) observeVideo(t *track, f *media.Frame, step time.Duration) {
	a.cur.videoFrames++
	a.bytes[0] += len(f.Payload)
	if t.timed {
		a.intervals.add(step)
	}
	a.reordering.observe(f, &a.cur)
	if a.audio.timed {
		a.skew += a.audio.end - f.DTS
		a.skewCount++
	}
	key := f.RAP != media.NoRandomAccess
	irregularKey := false
	if key {
		increment(&a.cur.Keyframes)
		if a.hasKey {
			gop := f.DTS - a.keyAt
			irregularKey = gop < a.gop-a.gop/10
			a.gop = gop
			a.cur.GOP = max(a.cur.GOP, float32(gop.Seconds()))
		}
		a.keyAt, a.hasKey = f.DTS, true
	} else {
		a.peaks.observe(f.DTS, len(f.Payload))
	}
	size := codec.PictureSize(f.Track, t.lengthSize, f.Payload)
	a.motion.observe(f.Track, size, key, irregularKey)
}

// maxSilentFrame is the size in bytes of an audio frame in which no sound fits.
const maxSilentFrame = 16

func (a *Analyzer) observeAudio(t *track, f *media.Frame, step time.Duration) {
	a.cur.audioFrames++
	a.bytes[1] += len(f.Payload)
	if len(f.Payload) <= maxSilentFrame || bytes.Equal(f.Payload, t.payload) {
		a.silent++
	}
	if t.timed && t.duration > 0 {
		if by := step - t.duration; by.Abs() > maxAudioStep {
			increment(&a.cur.AudioGaps)
			a.gapBy = by
		} else {
			t.drift += by
		}
	}
	t.duration, t.payload = codec.Duration(f.Track, f.Payload), f.Payload
}

// Skip tells the Analyzer that frames are missing, because it was too slow to read them.
func (a *Analyzer) Skip() {
	a.video.timed, a.audio.timed, a.hasKey = false, false, false
}

// Tick ends a second at now, and updates the findings. It returns those that appeared and those that
// are over.
func (a *Analyzer) Tick(now time.Time, facts Facts) (appeared, cleared []Finding) {
	if a.curStart.IsZero() {
		a.curStart = now.Add(-time.Second)
		if !a.connected.IsZero() && a.connected.Before(a.curStart) { // the first frames waited for this
			a.curStart = a.connected
		}
	}
	a.finishSample(now, facts)
	a.facts = facts
	if a.unusable++; len(facts.Unusable) == 0 {
		a.unusable = 0
	}
	if facts.Held {
		return nil, nil
	}
	if a.states == nil {
		a.states = make([]state, len(rules))
	}
	for i, r := range rules {
		switch s := &a.states[i]; {
		case !s.update(now, r.check(a)):
		case s.text != "":
			appeared = append(appeared, s.finding(r))
		default:
			f := s.finding(r)
			f.Text = s.cleared
			cleared = append(cleared, f)
		}
	}
	return appeared, cleared
}

// finishSample adds the sample of the current second to the history.
func (a *Analyzer) finishSample(now time.Time, facts Facts) {
	s := &a.cur
	seconds := max(now.Sub(a.curStart).Seconds(), 0.1)
	s.Time = now
	s.VideoKbps = float32(float64(a.bytes[0]) * 8 / 1000 / seconds)
	s.AudioKbps = float32(float64(a.bytes[1]) * 8 / 1000 / seconds)
	s.FrameRate = float32(float64(s.videoFrames) / seconds)
	s.JitterMS, s.irregular = a.intervals.measure()
	if a.hasKey {
		s.GOP = max(s.GOP, float32(max(a.gop, a.video.end-a.keyAt).Seconds()))
	}
	if a.skewCount > 0 && s.audioFrames > 0 {
		s.SkewMS, s.hasSkew = milliseconds(a.skew/time.Duration(a.skewCount)), true
	}
	s.LagMS, s.hasLag = a.lag.finish()
	s.DriftMS = milliseconds(a.audio.drift)
	s.Silent = s.audioFrames > 0 && int(a.silent)*20 >= int(s.audioFrames)*19
	s.Static = a.motion.finish(s.videoFrames > 0)
	s.Viewers, s.Protocols, s.Behind = int32(facts.Viewers), facts.Protocols, int32(facts.Behind)
	s.Players, s.Stalled = int32(facts.Playback.Players), int32(facts.Playback.Stalled)
	if facts.Damaged > a.facts.Damaged {
		s.Damaged = uint8(min(facts.Damaged-a.facts.Damaged, math.MaxUint8))
	}
	if len(a.history) < HistoryLength {
		a.history = append(a.history, *s)
	} else {
		a.history[a.next] = *s
		a.next = (a.next + 1) % HistoryLength
	}
	*s = Sample{}
	a.curStart, a.bytes, a.silent, a.skew, a.skewCount = now, [2]int{}, 0, 0, 0
}

// milliseconds returns d in ms, within the limits of an int32.
func milliseconds(d time.Duration) int32 {
	return int32(max(math.MinInt32, min(d.Milliseconds(), math.MaxInt32)))
}

// History returns the samples of the last ten minutes, oldest first.
func (a *Analyzer) History() []Sample {
	return slices.Concat(a.history[a.next:], a.history[:a.next])
}

// recent returns the sample of back seconds ago, nil if there is none.
func (a *Analyzer) recent(back int) *Sample {
	n := len(a.history)
	if back >= n {
		return nil
	}
	return &a.history[(a.next+n-1-back)%n]
}
