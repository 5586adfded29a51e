package flv

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"livego/internal/codec"
	"livego/internal/media"
)

// ErrSkip is wrapped by the errors of Demuxer.Message for a message that is invalid. It is skipped
// and counted in Demuxer.Skips; the publisher continues.
var ErrSkip = errors.New("flv: invalid message")

// ErrFlood is returned by Demuxer.Message when a publisher changes its configuration so often that
// every viewer would restart its decoder all the time. The caller closes the publisher.
var ErrFlood = errors.New("flv: more than 2 configuration changes a second")

// ErrUnsupported is an ErrSkip for a codec or packet type that livego does not know.
var ErrUnsupported = errors.New("flv: unsupported")

// A skipError is an ErrSkip with the reason for the counters.
type skipError struct {
	reason media.SkipReason
	text   string
	codec  string // the unsupported codec
}

func (e *skipError) Error() string {
	if e.reason == media.SkipUnsupported {
		return ErrUnsupported.Error() + ": " + e.text
	}
	return ErrSkip.Error() + ": " + e.text
}

// Is matches ErrSkip, and ErrUnsupported if that is the reason.
func (e *skipError) Is(target error) bool {
	return target == ErrSkip || target == ErrUnsupported && e.reason == media.SkipUnsupported
}

func skip(format string, args ...any) error { return skipFor(media.SkipMalformed, format, args...) }

func unsupported(format string, args ...any) error {
	return skipFor(media.SkipUnsupported, format, args...)
}

func skipFor(reason media.SkipReason, format string, args ...any) error {
	return &skipError{reason: reason, text: fmt.Sprintf(format, args...)}
}

const (
	maxCTS = 10 * time.Second // a larger difference of PTS and DTS is invalid

	maxMetaChanges   = 10 // accepted changes of onMetaData in metaWindow
	metaWindow       = time.Second
	maxConfigChanges = 20 // accepted configuration changes in configWindow
	configWindow     = 10 * time.Second
	maxConfigSize    = 64 << 10 // bytes; sent to every viewer
)

// A Demuxer decodes the messages of one publisher into frames. The zero Demuxer is ready. Not for
// concurrent use.
type Demuxer struct {
	// Skips counts skipped messages. It may be nil.
	Skips *media.Skips

	clock  unwrapper
	tracks map[trackKey]*trackState
	script *media.Track
	meta   *media.Meta

	metaChanges, configChanges, colorChanges rateLimiter

	packets []packet // of the current message
	frames  []*media.Frame
}

type trackKey struct {
	kind media.Kind
	id   uint8
}

// A trackState is the current track of a kind and ID, or what is known before its configuration
// arrives.
type trackState struct {
	track      *media.Track
	lengthSize int    // of NAL unit length fields, for H.264 and HEVC
	colors     []byte // Track.Colors
	inBand     bool   // configured by frames only: parameter sets of H.264 and HEVC, or ADTS headers
}

// Message decodes one message: its type (8, 9 or 18), its timestamp in milliseconds and its body,
// of which it takes ownership. arrived is when the last byte was read. It returns the frames, whose
// payloads are slices of body: one, several for a message with several tracks, or none for
// configuration, metadata and ends of sequences. The slice is valid until the next call. Errors
// wrap ErrSkip or ErrFlood; if only some tracks of a message are invalid, the frames of the others
// are returned with the error.
func (d *Demuxer) Message(typ uint8, timestamp uint32, body []byte, arrived time.Time) ([]*media.Frame, error) {
	clear(d.frames)
	d.frames = d.frames[:0]
	k, split := media.Video, parseVideo
	switch typ {
	case TypeVideo:
	case TypeAudio:
		k, split = media.Audio, parseAudio
	case TypeScriptData:
		f, err := d.scriptMessage(body, timestamp, arrived)
		d.countSkip(media.Data, 0, err)
		return d.add(f), err
	default:
		err := skip("message type %d", typ)
		d.countSkip(0, 0, err)
		return nil, err
	}
	var bad error
	d.packets, bad = split(d.packets[:0], body)
	d.countSkip(k, 0, bad)
	defer clear(d.packets)
	for _, p := range d.packets {
		for more := true; more; {
			one := p
			if one.kind == kindFrame {
				var duration time.Duration
				one.data, p.data, duration = codec.Cut(p.codec, p.data)
				p.offset += duration
			}
			more = one.kind == kindFrame && p.data != nil
			f, err := d.packet(k, one, timestamp, arrived)
			switch {
			case errors.Is(err, ErrFlood):
				return d.frames, err
			case err != nil:
				d.countSkip(k, p.id, err)
				bad = err
			}
			d.add(f)
		}
	}
	return d.frames, bad
}

// countSkip counts err, which is nil or an ErrSkip, for track id of kind k.
func (d *Demuxer) countSkip(k media.Kind, id uint8, err error) {
	if err == nil {
		return // avoids an allocation
	}
	var e *skipError
	if !errors.As(err, &e) {
		return
	}
	d.Skips.Add(media.Skip{Kind: k, Reason: e.reason, Err: err})
	if e.codec != "" {
		d.Skips.SetUnusable(media.UnusableTrack{Kind: k, ID: id, Codec: e.codec, Cause: e.reason,
			Reason: "the codec is not supported"})
	}
}

// add appends f, which may be nil, to the frames of the message.
func (d *Demuxer) add(f *media.Frame) []*media.Frame {
	if f != nil {
		d.frames = append(d.frames, f)
	}
	return d.frames
}

func (d *Demuxer) packet(k media.Kind, p packet, timestamp uint32, arrived time.Time) (*media.Frame, error) {
	if p.kind == kindIgnored {
		return nil, nil
	}
	cur, err := d.trackState(k, p.id)
	if err != nil {
		return nil, err
	}
	switch p.kind {
	case kindHeader:
		return nil, d.configure(k, cur, p, arrived)
	case kindFrame:
		return d.frame(k, cur, p, timestamp, arrived)
	case kindColorInfo:
		return nil, d.setColorInfo(cur, p, arrived)
	case kindEnd:
		if cur.track == nil {
			return nil, skip("end of a sequence that has not started")
		}
	}
	return nil, nil
}

// trackState returns the state of the track of kind k with that ID, new if there is none yet.
func (d *Demuxer) trackState(k media.Kind, id uint8) (*trackState, error) {
	key := trackKey{k, id}
	if cur := d.tracks[key]; cur != nil {
		return cur, nil
	}
	if id != 0 && len(d.tracks) >= maxTracks {
		return nil, skipFor(media.SkipLimit, "more than %d tracks", maxTracks)
	}
	if d.tracks == nil {
		d.tracks = make(map[trackKey]*trackState)
	}
	cur := new(trackState)
	d.tracks[key] = cur
	return cur, nil
}

// configure applies a configuration. A repeated one, as many encoders send before each keyframe,
// changes nothing.
func (d *Demuxer) configure(k media.Kind, cur *trackState, p packet, arrived time.Time) error {
	if len(p.data) > maxConfigSize {
		return skipFor(media.SkipLimit, "%v configuration of %d bytes is too large", p.codec, len(p.data))
	}
	p.data = codec.NormalizeConfig(p.codec, p.data)
	if cur.matches(p) && bytes.Equal(cur.track.Config, p.data) {
		return nil
	}
	t, lengthSize, err := newTrack(k, p)
	if err != nil {
		if cur.track == nil && len(p.data) > 0 { // ffmpeg sends an empty one for AV1 before it has one
			d.markUnusable(k, p, media.SkipBadConfig, fmt.Sprintf("invalid configuration: %v", err))
		}
		return skipFor(media.SkipBadConfig, "invalid %v configuration: %v", p.codec, err)
	}
	inBand := lengthSize == builtLengthSize && codec.LacksParameterSets(t)
	if inBand && cur.inBand && cur.matches(p) {
		return nil
	}
	if err := d.setTrack(cur, t, p.id, lengthSize, arrived); err != nil {
		return err
	}
	cur.inBand = inBand
	return nil
}

// builtLengthSize is the size of NAL unit length fields in a configuration that was built from
// parameter sets.
const builtLengthSize = 4

// setTrack makes t, which is not published yet, the current track. The first track does not count
// as a change.
func (d *Demuxer) setTrack(cur *trackState, t *media.Track, id uint8, lengthSize int, arrived time.Time) error {
	if cur.track != nil && !d.configChanges.allow(arrived, maxConfigChanges, configWindow) {
		return ErrFlood
	}
	t.ID, t.ColorInfo = id, cur.colors
	cur.track, cur.lengthSize = t, lengthSize
	d.Skips.SetUsable(t.Kind, id)
	return nil
}

// markUnusable marks the track of p as unusable until that changes.
func (d *Demuxer) markUnusable(k media.Kind, p packet, cause media.SkipReason, reason string) {
	d.Skips.SetUnusable(media.UnusableTrack{Kind: k, ID: p.id, Codec: p.codec.String(), Cause: cause, Reason: reason})
}

// setColorInfo applies color information. It may arrive before the configuration. Repetitions
// change nothing, and excessive changes are ignored.
func (d *Demuxer) setColorInfo(cur *trackState, p packet, arrived time.Time) error {
	b, err := cleanColorMetadata(p.data)
	if err != nil {
		return err
	}
	if b == nil && cur.colors != nil {
		b = resetColorInfo
	}
	if bytes.Equal(b, cur.colors) || !d.colorChanges.allow(arrived, maxConfigChanges, configWindow) {
		return nil
	}
	cur.colors = b
	if cur.track != nil {
		t := *cur.track
		t.ColorInfo = b
		cur.track = &t
	}
	return nil
}

func (d *Demuxer) frame(k media.Kind, cur *trackState, p packet, timestamp uint32, arrived time.Time) (*media.Frame,
	error) {
	if len(p.data) == 0 && k == media.Audio {
		return d.silentFrame(cur, p, timestamp, arrived), nil
	}
	if len(p.data) == 0 {
		return nil, skip("%v frame without content", p.codec)
	}
	if err := d.ensureTrack(k, cur, p, arrived); err != nil {
		return nil, err
	}
	data, damaged, err := codec.Clean(cur.track, cur.lengthSize, p.data)
	if err != nil {
		return nil, skip("%v", err)
	}
	if len(data) == 0 && k == media.Audio {
		return d.silentFrame(cur, p, timestamp, arrived), nil
	}
	rap, leading, err := codec.RandomAccess(cur.track, cur.lengthSize, p.keyFlag, data)
	if errors.Is(err, codec.ErrNothingToDecode) && damaged == 0 {
		return nil, skipFor(media.SkipNoPicture, "%v", err)
	}
	if err != nil {
		return nil, skip("%v", err)
	}
	if damaged > 0 {
		d.countSkip(k, p.id, skipFor(media.SkipUnit, "%d invalid NAL units in a picture", damaged))
	}
	f := d.newFrame(cur, p, timestamp, arrived)
	f.RAP, f.Leading, f.KeyFlag, f.Payload = rap, leading, p.keyFlag || k == media.Audio, data
	return f, nil
}

// silentFrame returns a silent frame in place of one without content, as muted encoders send; nil
// if there is none for the codec.
func (d *Demuxer) silentFrame(cur *trackState, p packet, timestamp uint32, arrived time.Time) *media.Frame {
	d.Skips.AddSilent()
	if !cur.matches(p) {
		return nil
	}
	b := codec.Silence(cur.track)
	if b == nil {
		return nil
	}
	f := d.newFrame(cur, p, timestamp, arrived)
	f.RAP, f.KeyFlag, f.Payload = media.Keyframe, true, b
	return f
}

// newFrame returns a frame of cur with the timestamps of p.
func (d *Demuxer) newFrame(cur *trackState, p packet, timestamp uint32, arrived time.Time) *media.Frame {
	if p.cts.Abs() > maxCTS {
		p.cts = 0
	}
	dts := d.clock.advance(timestamp) + p.offset
	return &media.Frame{Track: cur.track, Meta: d.meta, DTS: dts, PTS: dts + p.cts, Arrived: arrived}
}

// ensureTrack makes sure that cur has the track that frame p belongs to.
func (d *Demuxer) ensureTrack(k media.Kind, cur *trackState, p packet, arrived time.Time) error {
	known := cur.matches(p)
	if known && !codec.SelfDescribing(p.codec) && !cur.inBand {
		return nil
	}
	var old *media.Track
	if known {
		old = cur.track
	}
	from, lengthSize := codec.TrackFromFrame, 0
	if codec.HasParameterSets(p.codec) {
		from, lengthSize = codec.TrackFromParameterSets, builtLengthSize
	}
	t, err := from(p.track(k), p.data, old)
	switch {
	case t != nil && t != old && len(t.Config) > maxConfigSize:
		return skipFor(media.SkipLimit, "%v configuration of %d bytes is too large", p.codec, len(t.Config))
	case t == nil && codec.NeedsConfig(p.codec):
		d.markUnusable(k, p, media.SkipNoConfig,
			fmt.Sprintf("its configuration (%s) has not arrived", codec.ConfigName(p.codec)))
		return skipFor(media.SkipNoConfig, "%v frame before its configuration", p.codec)
	case t == nil:
		return skip("%v", err)
	case t == old: // also for data without a frame header: encoders split frames anywhere
		return nil
	}
	if err := d.setTrack(cur, t, p.id, lengthSize, arrived); err != nil {
		return err
	}
	cur.inBand = codec.NeedsConfig(p.codec)
	return nil
}

// matches reports whether c has the codec of p.
func (c *trackState) matches(p packet) bool {
	return c.track != nil && c.track.Codec == p.codec && c.track.Label == p.label
}

// track returns what p says about its track, which is of kind k.
func (p packet) track(k media.Kind) media.Track {
	return media.Track{Kind: k, Codec: p.codec, Label: p.label}
}

// newTrack returns the track that configuration packet p describes, and the size of the length
// fields of its NAL units, if it has such.
func newTrack(k media.Kind, p packet) (t *media.Track, lengthSize int, err error) {
	if len(p.data) == 0 {
		return nil, 0, errors.New("empty")
	}
	base := p.track(k)
	base.Config = p.data
	lengthSize, err = codec.Describe(&base)
	if err != nil {
		return nil, 0, err
	}
	return &base, lengthSize, nil
}

// An unwrapper extends 32-bit timestamps to 64 bits by serial number arithmetic (RFC 1982, required
// by RTMP 1.0 section 4), relative to the last frame of any track.
type unwrapper struct {
	last int64 // ms
	set  bool
}

// at returns the time of timestamp in milliseconds, without advancing.
func (c *unwrapper) at(timestamp uint32) int64 {
	if !c.set {
		return int64(timestamp)
	}
	return c.last + int64(int32(timestamp-uint32(c.last)))
}

func (c *unwrapper) advance(timestamp uint32) time.Duration {
	c.last, c.set = c.at(timestamp), true
	return time.Duration(c.last) * time.Millisecond
}

// A rateLimiter counts events in a window of time.
type rateLimiter struct {
	start time.Time
	n     int
}

// allow reports whether one more event at now stays within most events in window.
func (r *rateLimiter) allow(now time.Time, most int, window time.Duration) bool {
	if r.n == 0 || now.Sub(r.start) >= window {
		*r = rateLimiter{start: now}
	}
	r.n++
	return r.n <= most
}
