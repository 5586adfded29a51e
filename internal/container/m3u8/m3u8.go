// Package m3u8 writes HLS playlists (RFC 8216, and its second edition, draft-pantos-hls-rfc8216bis,
// for low latency): plain structs in, bytes out. It knows no segment's content and no HTTP.
package m3u8

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ContentType is the media type of playlists, RFC 8216 section 10.
const ContentType = "application/vnd.apple.mpegurl"

// Versions that tags need, RFC 8216bis section 8: decimal durations 3, EXT-X-MAP 6, EXT-X-GAP 8, EXT-X-SKIP 9.
const (
	version     = 3
	versionMap  = 6
	versionGap  = 8
	versionSkip = 9
)

// A Multivariant playlist leads to media playlists, RFC 8216 section 4.3.4.
type Multivariant struct {
	Independent bool // every segment of every variant starts with a key frame
	Variants    []Variant
}

// A Variant is one rendition of the stream. Zero fields are unknown and left out, but Bandwidth,
// which every player needs.
type Variant struct {
	URI              string
	Bandwidth        int      // peak, bit/s
	AverageBandwidth int      // bit/s
	Codecs           []string // RFC 6381
	Width, Height    int
	FrameRate        float64
}

// Encode returns the playlist. It refuses values that cannot stand in one: a URI or codec with a
// control character, a space or a quotation mark, an empty URI, no bandwidth.
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
		return errors.New("m3u8: variant with a frame rate that is no number")
	}
	for _, c := range v.Codecs {
		if c == "" || !isPlain(c) || strings.Contains(c, ",") {
			return fmt.Errorf("m3u8: codec %q cannot stand in a playlist", c)
		}
	}
	return checkURI(v.URI)
}

// A Media playlist lists segments, RFC 8216 sections 4.3.2 and 4.3.3.
type Media struct {
	TargetDuration        time.Duration // no segment may be longer, rounded to seconds; a whole number of seconds
	MediaSequence         uint64        // of the first segment
	DiscontinuitySequence uint64        // discontinuities that have left the playlist
	Independent           bool          // every segment starts with a key frame
	Ended                 bool          // no segment will follow
	Segments              []Segment

	// Of low latency, RFC 8216bis section 4.4.3.7 and on. Without PartTarget there is none of it.
	PartTarget time.Duration // no part may be longer
	// how far from the end players stay; at least twice PartTarget, and thrice is better
	PartHoldBack         time.Duration
	OpenParts            []Part  // of the segment that is not complete
	OpenSegment          Segment // what precedes Open: all but URI and Duration
	PendingDiscontinuity bool    // what comes next is discontinuous, and nothing of it is in Open yet
	PreloadHint          string  // URI of the part that comes next; "" when none does
	// playlists may be asked for without what is older; at least six Target, 0 for never
	SkipUntil       time.Duration
	SkippedSegments int // this one is, by so many of the first Segments
}

// A Segment is one line of a Media playlist, with what precedes it.
type Segment struct {
	URI             string
	Duration        time.Duration
	Discontinuity   bool      // between the segment before and this one
	ProgramDateTime time.Time // of its first frame by the clock on the wall; zero to leave it out
	Map             string    // URI of the initialization section; "" where segments need none
	Gap             bool      // there is nothing at URI
	Parts           []Part    // nil when they are not listed, or no longer
}

// A Part is a partial segment, RFC 8216bis section 4.4.4.9.
type Part struct {
	URI         string
	Duration    time.Duration
	Independent bool // starts with a key frame
}

// Encode returns the playlist. It refuses what no player could use: a URI as in
// Multivariant.Encode, a target that is no whole number of seconds, a segment longer than the
// target, a part longer than its own.
func (m *Media) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b := appendHeader(m.version(), m.Independent)
	b = fmt.Appendf(b, "#EXT-X-TARGETDURATION:%d\n", m.TargetDuration/time.Second)
	if m.PartTarget > 0 {
		b = append(b, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK="...)
		b = appendSeconds(b, m.PartHoldBack)
		if m.SkipUntil > 0 {
			b = append(b, ",CAN-SKIP-UNTIL="...)
			b = appendSeconds(b, m.SkipUntil)
		}
		b = append(b, "\n#EXT-X-PART-INF:PART-TARGET="...)
		b = appendSeconds(b, m.PartTarget)
		b = append(b, '\n')
	}
	b = append(b, "#EXT-X-MEDIA-SEQUENCE:"...)
	b = append(strconv.AppendUint(b, m.MediaSequence, 10), '\n')
	if m.DiscontinuitySequence > 0 {
		b = append(b, "#EXT-X-DISCONTINUITY-SEQUENCE:"...)
		b = append(strconv.AppendUint(b, m.DiscontinuitySequence, 10), '\n')
	}
	initial := ""
	if m.SkippedSegments > 0 {
		b = fmt.Appendf(b, "#EXT-X-SKIP:SKIPPED-SEGMENTS=%d\n", m.SkippedSegments)
		initial = m.Segments[m.SkippedSegments-1].Map
	}
	for i := m.SkippedSegments; i < len(m.Segments); i++ {
		s := &m.Segments[i]
		b = s.appendTags(b, &initial)
		b = appendParts(b, s.Parts)
		b = s.appendURI(b)
	}
	if len(m.OpenParts) > 0 {
		b = m.OpenSegment.appendTags(b, &initial)
		b = appendParts(b, m.OpenParts)
	}
	if m.PendingDiscontinuity {
		b = append(b, "#EXT-X-DISCONTINUITY\n"...)
	}
	if m.PreloadHint != "" {
		b = fmt.Appendf(b, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"%s\"\n", m.PreloadHint)
	}
	if m.Ended {
		b = append(b, "#EXT-X-ENDLIST\n"...)
	}
	return b, nil
}

func (m *Media) check() error {
	if m.TargetDuration < time.Second || m.TargetDuration%time.Second != 0 {
		return fmt.Errorf("m3u8: target duration %v", m.TargetDuration)
	}
	if m.SkippedSegments < 0 || m.SkippedSegments > len(m.Segments) {
		return fmt.Errorf("m3u8: %d of %d segments to be skipped", m.SkippedSegments, len(m.Segments))
	}
	if m.PartTarget > 0 && (m.PartHoldBack < 2*m.PartTarget || m.SkipUntil != 0 && m.SkipUntil < 6*m.TargetDuration) {
		return fmt.Errorf("m3u8: hold back %v and skip until %v under targets of %v and %v", m.PartHoldBack, m.SkipUntil,
			m.PartTarget, m.TargetDuration)
	}
	for i := range m.Segments {
		s := &m.Segments[i]
		if s.Duration < 0 || s.Duration.Round(time.Second) > m.TargetDuration {
			return fmt.Errorf("m3u8: segment of %v under a target duration of %v", s.Duration, m.TargetDuration)
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

// checkParts looks at the parts of a segment, and at the URI of its initialization section.
func (m *Media) checkParts(initial string, parts []Part) error {
	if initial != "" {
		if err := checkURI(initial); err != nil {
			return err
		}
	}
	for i := range parts {
		p := &parts[i]
		if p.Duration < 0 || p.Duration > m.PartTarget {
			return fmt.Errorf("m3u8: part of %v under a target duration of %v", p.Duration, m.PartTarget)
		}
		if err := checkURI(p.URI); err != nil {
			return err
		}
	}
	return nil
}

// version returns the lowest that has all tags in m.
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

// appendTags writes what stands before the parts of s. initial is the initialization section in force.
func (s *Segment) appendTags(b []byte, initial *string) []byte {
	if s.Discontinuity {
		b = append(b, "#EXT-X-DISCONTINUITY\n"...)
	}
	if s.Map != "" && (s.Map != *initial || s.Discontinuity) {
		b = append(b, "#EXT-X-MAP:URI=\""...)
		b = append(b, s.Map...)
		b = append(b, "\"\n"...)
		*initial = s.Map
	}
	if !s.ProgramDateTime.IsZero() {
		b = append(b, "#EXT-X-PROGRAM-DATE-TIME:"...)
		b = s.ProgramDateTime.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
		b = append(b, '\n')
	}
	if s.Gap {
		b = append(b, "#EXT-X-GAP\n"...)
	}
	return b
}

func (s *Segment) appendURI(b []byte) []byte {
	b = append(b, "#EXTINF:"...)
	b = appendSeconds(b, s.Duration)
	b = append(b, ",\n"...)
	b = append(b, s.URI...)
	return append(b, '\n')
}

func appendParts(b []byte, parts []Part) []byte {
	for i := range parts {
		b = append(b, "#EXT-X-PART:DURATION="...)
		b = appendSeconds(b, parts[i].Duration)
		b = append(b, ",URI=\""...)
		b = append(b, parts[i].URI...)
		b = append(b, '"')
		if parts[i].Independent {
			b = append(b, ",INDEPENDENT=YES"...)
		}
		b = append(b, '\n')
	}
	return b
}

// appendSeconds writes d to the nearest 10 us.
func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, d.Seconds(), 'f', 5, 64)
}

func appendHeader(version int, independent bool) []byte {
	b := fmt.Appendf(make([]byte, 0, 4096), "#EXTM3U\n#EXT-X-VERSION:%d\n", version)
	if independent {
		b = append(b, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	return b
}

// checkURI keeps out what would end the line, look like a tag or need a decision on escaping: the caller escapes.
func checkURI(s string) error {
	if s == "" || s[0] == '#' || !isPlain(s) {
		return fmt.Errorf("m3u8: URI %q cannot stand in a playlist", s)
	}
	return nil
}

// isPlain reports whether s has printable ASCII only, and no quotation mark.
func isPlain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' {
			return false
		}
	}
	return true
}
