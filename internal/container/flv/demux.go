package flv

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"livego/internal/codec"
	"livego/internal/media"
)

// ErrSkip is what Demuxer.Message returns, with a reason, for a body that makes no sense. The message is to be dropped and
// counted, and the publisher left alone until there are too many.
var ErrSkip = errors.New("flv: bad message")

// ErrFlood is what Demuxer.Message returns when a publisher changes its configuration so often that every viewer would spend
// his time on starting anew. The publisher is to be closed.
var ErrFlood = errors.New("flv: more than 2 configuration changes a second")

func skip(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSkip, fmt.Sprintf(format, args...))
}

const (
	maxCTS = 10 * time.Second // a larger distance of PTS from DTS is a mistake

	maxMetas     = 10 // changes of onMetaData in metaWindow that are taken
	metaWindow   = time.Second
	maxConfigs   = 20 // new tracks in configWindow that are taken
	configWindow = 10 * time.Second
	maxConfig    = 64 << 10 // bytes; each viewer is sent a copy of his own
)

// A Demuxer turns the messages of one publisher into frames. The zero Demuxer is ready. Not for concurrent use.
type Demuxer struct {
	// WildCTS counts frames whose composition time was beyond 10 s and was taken for 0.
	WildCTS uint64

	clock        clock
	video, audio current
	script       *media.Track
	meta         *media.Meta

	metas, configs rate
}

// current is the track of one kind that is in force.
type current struct {
	track      *media.Track
	lengthSize int // of NAL units, for H.264 and HEVC
}

// Message takes one message: its type (8, 9 or 18), its time stamp in milliseconds and its body, which it takes ownership of.
// arrived is when its last byte was read. It returns the frame, whose Payload is part of body, or nil for a message that has
// none: configuration, metadata, ends. Errors wrap ErrSkip or ErrFlood.
func (d *Demuxer) Message(typ uint8, timestamp uint32, body []byte, arrived time.Time) (*media.Frame, error) {
	switch typ {
	case TypeVideo:
		p, err := parseVideo(body)
		if err != nil {
			return nil, err
		}
		return d.packet(media.Video, &d.video, p, timestamp, arrived)
	case TypeAudio:
		p, err := parseAudio(body)
		if err != nil {
			return nil, err
		}
		return d.packet(media.Audio, &d.audio, p, timestamp, arrived)
	case TypeScript:
		return d.data(body, timestamp, arrived)
	}
	return nil, skip("message type %d", typ)
}

func (d *Demuxer) packet(k media.Kind, cur *current, p packet, timestamp uint32, arrived time.Time) (*media.Frame, error) {
	switch p.what {
	case header:
		return nil, d.configure(k, cur, p, arrived)
	case frame:
		return d.frame(k, cur, p, timestamp, arrived)
	case end:
		if cur.track == nil {
			return nil, skip("end of a sequence that has not begun")
		}
	}
	return nil, nil
}

// configure takes a configuration. One that is repeated, as many encoders do at each key frame, changes nothing.
func (d *Demuxer) configure(k media.Kind, cur *current, p packet, arrived time.Time) error {
	if cur.carries(p) && bytes.Equal(cur.track.Config, p.data) {
		return nil
	}
	if len(p.data) > maxConfig {
		return skip("%v configuration of %d bytes", p.codec, len(p.data))
	}
	t, lengthSize, err := newTrack(k, p)
	if err != nil {
		return skip("%v configuration: %v", p.codec, err)
	}
	return d.adopt(cur, t, lengthSize, arrived)
}

func (d *Demuxer) adopt(cur *current, t *media.Track, lengthSize int, arrived time.Time) error {
	if !d.configs.allow(arrived, maxConfigs, configWindow) {
		return ErrFlood
	}
	cur.track, cur.lengthSize = t, lengthSize
	return nil
}

func (d *Demuxer) frame(k media.Kind, cur *current, p packet, timestamp uint32, arrived time.Time) (*media.Frame, error) {
	if len(p.data) == 0 {
		return nil, skip("%v frame without content", p.codec)
	}
	if err := d.prepare(k, cur, p, arrived); err != nil {
		return nil, err
	}
	rap, err := codec.RandomAccess(cur.track, cur.lengthSize, p.keyFlag, p.data)
	if err != nil {
		return nil, skip("%v", err)
	}
	if p.cts.Abs() > maxCTS {
		d.WildCTS++
		p.cts = 0
	}
	dts := d.clock.advance(timestamp)
	return &media.Frame{
		Track: cur.track, Meta: d.meta,
		DTS: dts, PTS: dts + p.cts,
		RAP: rap, KeyFlag: p.keyFlag || k == media.Audio,
		Arrived: arrived, Payload: p.data,
	}, nil
}

// prepare sees to it that cur is the track of frame p.
func (d *Demuxer) prepare(k media.Kind, cur *current, p packet, arrived time.Time) error {
	known := cur.carries(p)
	if known && !codec.SelfDescribing(p.codec) {
		return nil
	}
	if codec.NeedsConfig(p.codec) {
		return skip("%v frame before its configuration", p.codec)
	}
	var old *media.Track
	if known {
		old = cur.track
	}
	t, err := codec.FromFrame(p.track(k), p.data, old)
	switch {
	case t == nil:
		return skip("%v", err)
	case t == old: // of one without a header too: encoders cut where they like
		return nil
	}
	return d.adopt(cur, t, 0, arrived)
}

// carries reports whether c is of the coding that p has.
func (c *current) carries(p packet) bool {
	return c.track != nil && c.track.Codec == p.codec && c.track.Label == p.label
}

// A clock unwraps time stamps of 32 bits by serial arithmetic (RFC 1982, required by RTMP 1.0 section 4) against the last
// frame of any track.
type clock struct {
	last int64 // ms
	set  bool
}

// at returns the time of timestamp, without moving on.
func (c *clock) at(timestamp uint32) int64 {
	if !c.set {
		return int64(timestamp)
	}
	return c.last + int64(int32(timestamp-uint32(c.last)))
}

func (c *clock) advance(timestamp uint32) time.Duration {
	c.last, c.set = c.at(timestamp), true
	return time.Duration(c.last) * time.Millisecond
}

// A rate counts events in windows of time.
type rate struct {
	start time.Time
	n     int
}

// allow reports whether one more event at now keeps to at most most of them in window.
func (r *rate) allow(now time.Time, most int, window time.Duration) bool {
	if r.n == 0 || now.Sub(r.start) >= window {
		*r = rate{start: now}
	}
	r.n++
	return r.n <= most
}
