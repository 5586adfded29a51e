// Package m3u8 encodes HLS playlists (RFC 8216, and for low latency its second edition,
// draft-pantos-hls-rfc8216bis): plain structs in, bytes out. It knows neither segment contents nor
// HTTP.
package m3u8

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ContentType is the media type of playlists (RFC 8216 section 10).
const ContentType = "application/vnd.apple.mpegurl"

// Protocol versions that tags require (RFC 8216bis section 8): decimal durations 3, EXT-X-MAP 6,
// EXT-X-GAP 8, EXT-X-SKIP 9.
const (
	version     = 3
	versionMap  = 6
	versionGap  = 8
	versionSkip = 9
)

// A Multivariant playlist lists media playlists (RFC 8216 section 4.3.4).
type Multivariant struct {
	Independent bool // every segment of every variant starts with a keyframe
	Variants    []Variant
}

// A Variant is one rendition of the stream. Zero fields are unknown and omitted, except Bandwidth,
// which every player needs.
type Variant struct {
	URI              string
	Bandwidth        int      // peak, bit/s
	AverageBandwidth int      // bit/s
	Codecs           []string // RFC 6381
	Width, Height    int
	FrameRate        float64
}

// Encode returns the playlist. It rejects values that a playlist cannot hold: a URI or codec with a
// control character, a space or a quotation mark, an empty URI, a missing bandwidth.
func (m *Multivariant) Encode() ([]byte, error) {
	b := appendHeader(version, m.Independent)
	for _, v := range m.Variants {
		if err := v.check(); err != nil {
			return nil, err
		}
		b = fmt.Appendf(b, "#EXT-X-STREAM-INF:BANDWIDTH=%d", v.Bandwidth)
		if v.AverageBandwidth > 0 {
			b = fmt.Appendf(b, ",AVERAGE-BANDWIDTH=%d", v.AverageBandwidth)
		}
		if len(v.Codecs) > 0 {
			b = fmt.Appendf(b, ",CODECS=\"%s\"", strings.Join(v.Codecs, ","))
		}
		if v.Width > 0 && v.Height > 0 {
			b = fmt.Appendf(b, ",RESOLUTION=%dx%d", v.Width, v.Height)
		}
		if v.FrameRate > 0 {
			b = fmt.Appendf(b, ",FRAME-RATE=%.3f", v.FrameRate)
		}
		b = fmt.Appendf(b, "\n%s\n", v.URI)
	}
	return b, nil
}

func (v *Variant) check() error {
	if v.Bandwidth <= 0 {
		return errors.New("m3u8: variant without bandwidth")
	}
	if math.IsNaN(v.FrameRate) || math.IsInf(v.FrameRate, 0) {
		return errors.New("m3u8: variant frame rate is not a number")
	}
	for _, c := range v.Codecs {
		if c == "" || !isPlain(c) || strings.Contains(c, ",") {
			return fmt.Errorf("m3u8: invalid codec %q", c)
		}
	}
	return checkURI(v.URI)
}

// A Media playlist lists segments (RFC 8216 sections 4.3.2 and 4.3.3).
type Media struct {
	TargetDuration        time.Duration // upper limit of segment durations rounded to seconds; a whole number of seconds
	MediaSequence         uint64        // of the first segment
	DiscontinuitySequence uint64        // discontinuities that were removed from the playlist
	Independent           bool          // every segment starts with a keyframe
	Ended                 bool          // no segment follows
	Segments              []Segment

	// Low latency (RFC 8216bis sections 4.4.3.7 and later). Without PartTarget it is off.
	PartTarget time.Duration // upper limit of part durations
	// distance that players keep from the end; at least 2 x PartTarget, better 3 x
	PartHoldBack         time.Duration
	OpenParts            []Part  // of the segment that is not complete yet
	OpenSegment          Segment // tags before OpenParts; without URI and Duration
	PendingDiscontinuity bool    // a discontinuity follows, and OpenParts has nothing after it
	PreloadHint          string  // URI of the next part; "" if there is none
	// delta playlists may omit older segments; at least 6 x TargetDuration, 0 for none
	SkipUntil       time.Duration
	SkippedSegments int // how many of the first Segments this delta playlist omits
}

// A Segment is a segment of a Media playlist, with the tags before it.
type Segment struct {
	URI             string
	Duration        time.Duration
	Discontinuity   bool      // between the previous segment and this one
	ProgramDateTime time.Time // wall-clock time of its first frame; zero to omit it
	Map             string    // URI of the initialization section; "" if segments need none
	Gap             bool      // the segment is missing
	Parts           []Part    // nil if they are not listed
}

// A Part is a partial segment (RFC 8216bis section 4.4.4.9).
type Part struct {
	URI         string
	Duration    time.Duration
	Independent bool // starts with a keyframe
}

// Encode returns the playlist, and the offsets in it at which its URIs end. It rejects what no
// player can use: an invalid URI as in Multivariant.Encode, a target duration that is not a whole
// number of seconds, a segment longer than the target duration, a part longer than the part target.
func (m *Media) Encode() (playlist []byte, uriEnds []int, err error) {
	if err := m.check(); err != nil {
		return nil, nil, err
	}
	e := encoder{buf: appendHeader(m.version(), m.Independent)}
	e.numeric("#EXT-X-TARGETDURATION:", uint64(m.TargetDuration/time.Second))
	if m.PartTarget > 0 {
		e.text("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=")
		e.seconds(m.PartHoldBack)
		if m.SkipUntil > 0 {
			e.text(",CAN-SKIP-UNTIL=")
			e.seconds(m.SkipUntil)
		}
		e.text("\n#EXT-X-PART-INF:PART-TARGET=")
		e.seconds(m.PartTarget)
		e.text("\n")
	}
	e.numeric("#EXT-X-MEDIA-SEQUENCE:", m.MediaSequence)
	if m.DiscontinuitySequence > 0 {
		e.numeric("#EXT-X-DISCONTINUITY-SEQUENCE:", m.DiscontinuitySequence)
	}
	if m.SkippedSegments > 0 {
		e.numeric("#EXT-X-SKIP:SKIPPED-SEGMENTS=", uint64(m.SkippedSegments))
		e.initial = m.Segments[m.SkippedSegments-1].Map
	}
	for i := m.SkippedSegments; i < len(m.Segments); i++ {
		s := &m.Segments[i]
		e.tags(s)
		e.parts(s.Parts)
		e.text("#EXTINF:")
		e.seconds(s.Duration)
		e.text(",\n")
		e.uri(s.URI, "\n")
	}
	if len(m.OpenParts) > 0 {
		e.tags(&m.OpenSegment)
		e.parts(m.OpenParts)
	}
	if m.PendingDiscontinuity {
		e.text("#EXT-X-DISCONTINUITY\n")
	}
	if m.PreloadHint != "" {
		e.text("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"")
		e.uri(m.PreloadHint, "\"\n")
	}
	if m.Ended {
		e.text("#EXT-X-ENDLIST\n")
	}
	return e.buf, e.uriEnds, nil
}

func (m *Media) check() error {
	if m.TargetDuration < time.Second || m.TargetDuration%time.Second != 0 {
		return fmt.Errorf("m3u8: invalid target duration %v: not a whole number of seconds", m.TargetDuration)
	}
	if m.SkippedSegments < 0 || m.SkippedSegments > len(m.Segments) {
		return fmt.Errorf("m3u8: cannot skip %d of %d segments", m.SkippedSegments, len(m.Segments))
	}
	if m.PartTarget > 0 && (m.PartHoldBack < 2*m.PartTarget || m.SkipUntil != 0 && m.SkipUntil < 6*m.TargetDuration) {
		return fmt.Errorf("m3u8: PART-HOLD-BACK %v or CAN-SKIP-UNTIL %v too short for part target %v and target duration %v",
			m.PartHoldBack, m.SkipUntil,
			m.PartTarget, m.TargetDuration)
	}
	for i := range m.Segments {
		s := &m.Segments[i]
		if s.Duration < 0 || s.Duration.Round(time.Second) > m.TargetDuration {
			return fmt.Errorf("m3u8: segment of %v exceeds the target duration of %v", s.Duration, m.TargetDuration)
		}
		if err := checkURI(s.URI); err != nil {
			return err
		}
		if err := m.checkParts(s.Map, s.Parts); err != nil {
			return err
		}
	}
	if m.PreloadHint != "" {
		if err := checkURI(m.PreloadHint); err != nil {
			return err
		}
	}
	return m.checkParts(m.OpenSegment.Map, m.OpenParts)
}

// checkParts validates the parts of a segment, and the URI of its initialization section.
func (m *Media) checkParts(initial string, parts []Part) error {
	if initial != "" {
		if err := checkURI(initial); err != nil {
			return err
		}
	}
	for i := range parts {
		p := &parts[i]
		if p.Duration < 0 || p.Duration > m.PartTarget {
			return fmt.Errorf("m3u8: part of %v exceeds the part target of %v", p.Duration, m.PartTarget)
		}
		if err := checkURI(p.URI); err != nil {
			return err
		}
	}
	return nil
}

// version returns the lowest protocol version that has all tags in m.
func (m *Media) version() int {
	v := version
	if m.PartTarget > 0 || m.SkippedSegments > 0 {
		return versionSkip
	}
	for i := range m.Segments {
		if m.Segments[i].Map != "" {
			v = max(v, versionMap)
		}
		if m.Segments[i].Gap {
			v = max(v, versionGap)
		}
	}
	return v
}

// AddQuery returns a media playlist that Encode returned, with a query at the end of each URI.
func AddQuery(playlist []byte, query string) []byte {
	b := make([]byte, 0, 2*len(playlist))
	for line := range bytes.Lines(playlist) {
		end := uriEnd(line)
		if b = append(b, line[:end]...); end > 0 {
			b = append(append(b, '?'), query...)
		}
		b = append(b, line[end:]...)
	}
	return b
}

// uriEnd returns where the URI of a line ends, 0 if it has none.
func uriEnd(line []byte) int {
	if line[0] != '#' {
		return len(bytes.TrimSuffix(line, []byte("\n")))
	}
	before, after, _ := bytes.Cut(line, []byte(`URI="`))
	if n := bytes.IndexByte(after, '"'); n >= 0 {
		return len(before) + len(`URI="`) + n
	}
	return 0
}

// An encoder appends to a playlist.
type encoder struct {
	buf     []byte
	uriEnds []int  // offsets in buf
	initial string // current initialization section
}

func (e *encoder) text(s string) { e.buf = append(e.buf, s...) }

// seconds appends d in seconds, to the nearest 10 us.
func (e *encoder) seconds(d time.Duration) {
	e.buf = strconv.AppendFloat(e.buf, d.Seconds(), 'f', 5, 64)
}

// numeric appends a tag with a number.
func (e *encoder) numeric(tag string, n uint64) {
	e.buf = append(strconv.AppendUint(append(e.buf, tag...), n, 10), '\n')
}

// uri appends a URI and the text after it.
func (e *encoder) uri(uri, after string) {
	e.text(uri)
	e.uriEnds = append(e.uriEnds, len(e.buf))
	e.text(after)
}

// tags appends the tags before the parts of s.
func (e *encoder) tags(s *Segment) {
	if s.Discontinuity {
		e.text("#EXT-X-DISCONTINUITY\n")
	}
	if s.Map != "" && (s.Map != e.initial || s.Discontinuity) {
		e.text("#EXT-X-MAP:URI=\"")
		e.uri(s.Map, "\"\n")
		e.initial = s.Map
	}
	if !s.ProgramDateTime.IsZero() {
		e.text("#EXT-X-PROGRAM-DATE-TIME:")
		e.buf = s.ProgramDateTime.UTC().AppendFormat(e.buf, "2006-01-02T15:04:05.000Z\n")
	}
	if s.Gap {
		e.text("#EXT-X-GAP\n")
	}
}

func (e *encoder) parts(parts []Part) {
	for i := range parts {
		e.text("#EXT-X-PART:DURATION=")
		e.seconds(parts[i].Duration)
		e.text(",URI=\"")
		after := "\"\n"
		if parts[i].Independent {
			after = "\",INDEPENDENT=YES\n"
		}
		e.uri(parts[i].URI, after)
	}
}

func appendHeader(version int, independent bool) []byte {
	b := fmt.Appendf(make([]byte, 0, 4096), "#EXTM3U\n#EXT-X-VERSION:%d\n", version)
	if independent {
		b = append(b, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	return b
}

// checkURI rejects a URI that would end the line, look like a tag or need escaping: the caller
// escapes.
func checkURI(s string) error {
	if s == "" || s[0] == '#' || !isPlain(s) {
		return fmt.Errorf("m3u8: invalid URI %q", s)
	}
	return nil
}

// isPlain reports whether s consists of printable ASCII without spaces and quotation marks.
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' })
}
