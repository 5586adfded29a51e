package flv

import (
	"bytes"
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/media"
)

// maxScript is the largest script message that is decoded, in bytes.
const maxScript = 64 << 10

// clockRate is the timescale of script data.
const clockRate = 90000

// scriptMessage decodes a script message: metadata, or timed data of the stream.
func (d *Demuxer) scriptMessage(body []byte, timestamp uint32, arrived time.Time) (*media.Frame, error) {
	if len(body) > maxScript {
		return nil, skipFor(media.SkipMetadata, "script message of %d bytes is too large", len(body))
	}
	body = bytes.TrimPrefix(body, setDataFrame)
	values, err := amf0.Decode(body)
	if err != nil {
		return nil, skipFor(media.SkipMetadata, "invalid script message: %v", err)
	}
	if len(values) == 0 {
		return nil, skipFor(media.SkipMetadata, "script message without content")
	}
	switch name, _ := values[0].(string); name {
	case "", "@setDataFrame": // a second @setDataFrame is not accepted
		return nil, skipFor(media.SkipMetadata, "script message without a name")
	case "@clearDataFrame":
		return nil, nil
	case onMetaData:
		d.setMeta(values[1:], arrived)
		return nil, nil
	}
	if d.script == nil {
		d.script = &media.Track{Kind: media.Data, Codec: media.ScriptData, Timescale: clockRate}
	}
	// The clock does not advance: encoders put arbitrary timestamps on script data.
	at := time.Duration(d.clock.at(timestamp)) * time.Millisecond
	return &media.Frame{
		Track: d.script, Meta: d.meta, DTS: at, PTS: at, RAP: media.Keyframe, KeyFlag: true,
		Arrived: arrived, Payload: body,
	}, nil
}

const onMetaData = "onMetaData"

// setDataFrame is the AMF0 prefix of a message that asks a server to store the named data and send
// it to viewers.
var setDataFrame = amf0.Append(nil, "@setDataFrame")

// setMeta applies the arguments of onMetaData. Repetitions change nothing, and excessive changes
// are ignored.
func (d *Demuxer) setMeta(args []any, now time.Time) {
	m := parseMeta(args)
	if d.meta != nil && *d.meta == m || !d.metaChanges.allow(now, maxMetaChanges, metaWindow) {
		return
	}
	d.meta = &m
}

// parseMeta returns the known, valid values. Players do not receive values outside these bounds.
func parseMeta(args []any) media.Meta {
	if len(args) == 0 {
		return media.Meta{}
	}
	get := properties(args[0])
	number := func(key string, least, most float64) float64 {
		f, _ := get(key).(float64)
		if !(least <= f && f <= most) { // NaN fails
			return 0
		}
		return f
	}
	const maxRate = 10e6 // kbit/s
	m := media.Meta{
		Width:      int(number("width", 1, 16384)),
		Height:     int(number("height", 1, 16384)),
		FrameRate:  number("framerate", math.SmallestNonzeroFloat64, 1000),
		VideoRate:  number("videodatarate", 0, maxRate),
		AudioRate:  number("audiodatarate", 0, maxRate),
		SampleRate: int(number("audiosamplerate", 1, 768000)),
		Channels:   int(number("audiochannels", 1, 255)),
		HasVideo:   isCodecID(get("videocodecid"), 1),
		HasAudio:   isCodecID(get("audiocodecid"), 0),
	}
	if stereo, ok := get("stereo").(bool); ok && m.Channels == 0 && m.HasAudio {
		m.Channels = 1
		if stereo {
			m.Channels = 2
		}
	}
	m.Encoder, _ = get("encoder").(string)
	if !isLabel(m.Encoder) {
		m.Encoder = ""
	}
	return m
}

// properties returns a function that returns the properties of v: nil for a missing one, and always
// nil if v is not an object.
func properties(v any) func(key string) any {
	switch o := v.(type) {
	case amf0.ECMAArray:
		return o.Get
	case amf0.Object:
		return o.Get
	}
	return func(string) any { return nil }
}

// isCodecID reports whether v names a codec: a number of at least least, or a FourCC in a string.
func isCodecID(v any, least float64) bool {
	switch v := v.(type) {
	case float64:
		return v >= least
	case string:
		return v != ""
	}
	return false
}

// isLabel reports whether s is short and printable: it is shown on pages and in logs.
func isLabel(s string) bool {
	return len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// metaData returns the body of an onMetaData message for viewers: the properties of the tracks, and
// what the encoder declared where a track has none. m may be nil. The first track of each kind is
// described at the top level; the others have a map of their own (Enhanced RTMP v2, Enhancing
// onMetaData).
func (d Dialect) metaData(m *media.Meta, tracks ...*media.Track) []byte {
	return amf0.Append(nil, onMetaData, amf0.ECMAArray(d.metaProperties(m, tracks...)))
}

// metaProperties returns the properties of onMetaData.
func (d Dialect) metaProperties(m *media.Meta, tracks ...*media.Track) pairs {
	m = cmp.Or(m, new(media.Meta))
	var e pairs
	v, a := firstTrack(media.Video, tracks), firstTrack(media.Audio, tracks)
	if v != nil || m.HasVideo {
		e.video(cmp.Or(v, new(media.Track)), m)
		e.number("videocodecid", d.codecID(v))
	}
	if a != nil || m.HasAudio {
		e.audio(cmp.Or(a, new(media.Track)), m)
		e.number("audiocodecid", d.codecID(a))
	}
	e.otherTracks("videoTrackIdInfoMap", v, tracks, func(e *pairs, t *media.Track) {
		e.video(t, new(media.Meta))
		e.number("videocodecid", d.codecID(t))
	})
	e.otherTracks("audioTrackIdInfoMap", a, tracks, func(e *pairs, t *media.Track) {
		e.audio(t, new(media.Meta))
		e.number("audiocodecid", d.codecID(t))
	})
	if m.Encoder != "" {
		e = append(e, amf0.Pair{Key: "encoder", Value: m.Encoder})
	}
	return e
}

// pairs are properties under construction.
type pairs []amf0.Pair

// number adds a number that is known.
func (e *pairs) number(key string, f float64) {
	if f > 0 {
		*e = append(*e, amf0.Pair{Key: key, Value: f})
	}
}

func (e *pairs) video(t *media.Track, m *media.Meta) {
	e.number("width", float64(cmp.Or(t.Width, m.Width)))
	e.number("height", float64(cmp.Or(t.Height, m.Height)))
	e.number("framerate", cmp.Or(t.FrameRate, m.FrameRate))
	e.number("videodatarate", m.VideoRate)
}

func (e *pairs) audio(t *media.Track, m *media.Meta) {
	channels := cmp.Or(t.Channels, m.Channels)
	e.number("audiosamplerate", float64(cmp.Or(t.SampleRate, m.SampleRate)))
	e.number("audiochannels", float64(channels))
	if channels > 0 {
		*e = append(*e, amf0.Pair{Key: "stereo", Value: channels > 1})
	}
	e.number("audiodatarate", m.AudioRate)
}

// otherTracks adds a map, by ID, of the tracks of first's kind other than first.
func (e *pairs) otherTracks(key string, first *media.Track, tracks []*media.Track,
	describe func(*pairs, *media.Track)) {
	var byID amf0.Object
	for _, t := range tracks {
		if first != nil && t.Kind == first.Kind && t != first {
			var one pairs
			describe(&one, t)
			byID = append(byID, amf0.Pair{Key: strconv.Itoa(int(t.ID)), Value: amf0.Object(one)})
		}
	}
	if byID != nil {
		*e = append(*e, amf0.Pair{Key: key, Value: byID})
	}
}

// firstTrack returns the track of kind k with the lowest ID, nil if there is none.
func firstTrack(k media.Kind, tracks []*media.Track) (lowest *media.Track) {
	for _, t := range tracks {
		if t.Kind == k && (lowest == nil || t.ID < lowest.ID) {
			lowest = t
		}
	}
	return lowest
}
