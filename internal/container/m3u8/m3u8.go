// Package m3u8 writes HLS playlists (RFC 8216): plain structs in, bytes out. It knows no segment's content and no HTTP.
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

// version is what the tags used here need: decimal durations (3), and nothing that needs more.
const version = 3

// A Multivariant playlist leads to media playlists, RFC 8216 section 4.3.4.
type Multivariant struct {
	Independent bool // every segment of every variant starts with a key frame
	Variants    []Variant
}

// A Variant is one rendition of the stream. Zero fields are unknown and left out, but Bandwidth, which every player needs.
type Variant struct {
	URI              string
	Bandwidth        int      // peak, bit/s
	AverageBandwidth int      // bit/s
	Codecs           []string // RFC 6381
	Width, Height    int
	FrameRate        float64
}

// Encode returns the playlist. It refuses values that cannot stand in one: a URI or codec with a control character, a space or a
// quotation mark, an empty URI, no bandwidth.
func (m *Multivariant) Encode() ([]byte, error) {
	b := begin(m.Independent)
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
		if c == "" || !clean(c) || strings.Contains(c, ",") {
			return fmt.Errorf("m3u8: codec %q cannot stand in a playlist", c)
		}
	}
	return checkURI(v.URI)
}

// A Media playlist lists segments, RFC 8216 sections 4.3.2 and 4.3.3.
type Media struct {
	Target                time.Duration // no segment may be longer, rounded to seconds; a whole number of seconds
	Sequence              uint64        // of the first segment
	DiscontinuitySequence uint64        // discontinuities that have left the playlist
	Independent           bool          // every segment starts with a key frame
	Ended                 bool          // no segment will follow
	Segments              []Segment
}

// A Segment is one line of a Media playlist, with what precedes it.
type Segment struct {
	URI           string
	Duration      time.Duration
	Discontinuity bool      // between the segment before and this one
	Time          time.Time // of its first frame by the clock on the wall; zero to leave it out
}

// Encode returns the playlist. It refuses what no player could use: a URI as in Multivariant.Encode, a target that is no whole
// number of seconds, a segment longer than the target.
func (m *Media) Encode() ([]byte, error) {
	if m.Target < time.Second || m.Target%time.Second != 0 {
		return nil, fmt.Errorf("m3u8: target duration %v", m.Target)
	}
	b := begin(m.Independent)
	b = fmt.Appendf(b, "#EXT-X-TARGETDURATION:%d\n#EXT-X-MEDIA-SEQUENCE:%d\n", m.Target/time.Second, m.Sequence)
	if m.DiscontinuitySequence > 0 {
		b = fmt.Appendf(b, "#EXT-X-DISCONTINUITY-SEQUENCE:%d\n", m.DiscontinuitySequence)
	}
	for _, s := range m.Segments {
		if s.Duration < 0 || s.Duration.Round(time.Second) > m.Target {
			return nil, fmt.Errorf("m3u8: segment of %v under a target duration of %v", s.Duration, m.Target)
		}
		if err := checkURI(s.URI); err != nil {
			return nil, err
		}
		b = s.append(b)
	}
	if m.Ended {
		b = append(b, "#EXT-X-ENDLIST\n"...)
	}
	return b, nil
}

func (s *Segment) append(b []byte) []byte {
	if s.Discontinuity {
		b = append(b, "#EXT-X-DISCONTINUITY\n"...)
	}
	if !s.Time.IsZero() {
		b = append(b, "#EXT-X-PROGRAM-DATE-TIME:"...)
		b = s.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
		b = append(b, '\n')
	}
	b = append(b, "#EXTINF:"...)
	b = strconv.AppendFloat(b, s.Duration.Seconds(), 'f', 5, 64)
	return fmt.Appendf(b, ",\n%s\n", s.URI)
}

func begin(independent bool) []byte {
	b := fmt.Appendf(nil, "#EXTM3U\n#EXT-X-VERSION:%d\n", version)
	if independent {
		b = append(b, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	return b
}

// checkURI keeps out what would end the line, look like a tag or need a decision on escaping: the caller escapes.
func checkURI(s string) error {
	if s == "" || s[0] == '#' || !clean(s) {
		return fmt.Errorf("m3u8: URI %q cannot stand in a playlist", s)
	}
	return nil
}

// clean reports whether s has printable ASCII only, and no quotation mark.
func clean(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' {
			return false
		}
	}
	return true
}
