package bench

import (
	"bytes"
	"errors"
	"strconv"
	"time"
)

const (
	// maxPlaylist is the largest playlist that is read, in bytes.
	maxPlaylist = 1 << 20
	// startBehind is how many segments before the end of a playlist players start (RFC 8216 section
	// 6.3.3 asks for three target durations).
	startBehind = 3
)

// wholeSegment is the part of a position that is a segment.
const wholeSegment = -1

// A position is a segment by its media sequence number, or a part of it.
type position struct {
	msn  uint64
	part int
}

func (p position) before(q position) bool { return p.msn < q.msn || p.msn == q.msn && p.part < q.part }

// A playlist is what a viewer needs of one.
type playlist struct {
	variant  string // the first one of a multivariant playlist
	sequence uint64
	target   time.Duration
	segments []string
	parts    []part
	blocking bool // blocking playlist reload is supported
	ended    bool
}

// A part is a partial segment of low-latency HLS, or a whole segment.
type part struct {
	position
	uri         string
	independent bool
}

// parsePlaylist parses a playlist (RFC 8216 section 4.3, RFC 8216bis section 4.4.4.9). Parts before
// from are omitted.
func parsePlaylist(text []byte, from position) (*playlist, error) {
	if !bytes.HasPrefix(text, []byte("#EXTM3U")) {
		return nil, errors.New("the response is not an HLS playlist")
	}
	list, multivariant, open := &playlist{target: time.Second}, false, 0
	for line := range bytes.Lines(text) {
		line := bytes.TrimSpace(line)
		tag, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case string(tag) == "#EXT-X-PART":
			if at := (position{list.sequence + uint64(len(list.segments)), open}); !at.before(from) {
				list.parts = append(list.parts, part{at, attribute(value, "URI"), bytes.Contains(value, []byte("INDEPENDENT=YES"))})
			}
			open++
		case string(tag) == "#EXT-X-STREAM-INF":
			multivariant = true
		case string(tag) == "#EXT-X-TARGETDURATION":
			seconds, err := strconv.ParseUint(string(value), 10, 16)
			if err != nil {
				return nil, errors.New("invalid HLS playlist: bad target duration")
			}
			list.target = time.Duration(seconds) * time.Second
		case string(tag) == "#EXT-X-MEDIA-SEQUENCE":
			n, err := strconv.ParseUint(string(value), 10, 64)
			if err != nil {
				return nil, errors.New("invalid HLS playlist: bad media sequence number")
			}
			list.sequence = n
		case string(tag) == "#EXT-X-SERVER-CONTROL":
			list.blocking = bytes.Contains(value, []byte("CAN-BLOCK-RELOAD=YES"))
		case string(tag) == "#EXT-X-ENDLIST":
			list.ended = true
		case len(line) == 0 || line[0] == '#':
		case multivariant:
			list.variant = string(line)
			return list, nil
		default:
			list.segments = append(list.segments, string(line))
			open = 0
		}
	}
	return list, nil
}

// attribute returns the quoted value of an attribute of a tag.
func attribute(list []byte, name string) string {
	_, rest, _ := bytes.Cut(list, []byte(name+`="`))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}
