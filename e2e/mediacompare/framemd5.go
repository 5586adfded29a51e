package mediacompare

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// ReadFrameMD5 reads the output of ffmpeg's framemd5 muxer. The format has no keyframe flags: Key
// stays false for video.
func ReadFrameMD5(r io.Reader) (Stream, error) {
	var s Stream
	type track struct {
		kind     Kind
		number   int // number among the tracks of its kind
		num, den int64
	}
	tracks, kinds := map[string]*track{}, map[Kind]int{}
	get := func(id string) *track {
		if tracks[id] == nil {
			tracks[id] = &track{num: 1, den: 1000}
		}
		return tracks[id]
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if name, value, ok := strings.Cut(strings.TrimPrefix(line, "#"), ": "); ok && line[0] == '#' {
			what, id, _ := strings.Cut(name, " ")
			switch what {
			case "media_type":
				tr := get(id)
				tr.kind, tr.number = Kind(value), kinds[Kind(value)]
				kinds[tr.kind]++
			case "tb":
				if _, err := fmt.Sscanf(value, "%d/%d", &get(id).num, &get(id).den); err != nil {
					return nil, fmt.Errorf("framemd5: %q: %w", line, err)
				}
			}
			continue
		}
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		f := strings.Split(line, ",")
		if len(f) < 6 {
			return nil, fmt.Errorf("framemd5: %q: want six fields", line)
		}
		tr := get(strings.TrimSpace(f[0]))
		var n [3]int64 // dts, pts, size
		for i, field := range []int{1, 2, 4} {
			var err error
			if n[i], err = strconv.ParseInt(strings.TrimSpace(f[field]), 10, 64); err != nil {
				return nil, fmt.Errorf("framemd5: %q: %w", line, err)
			}
		}
		at := func(ticks int64) time.Duration { return time.Duration(ticks * tr.num * int64(time.Second) / tr.den) }
		s = append(s, Unit{Kind: tr.kind, Track: tr.number, DTS: at(n[0]), PTS: at(n[1]), Size: int(n[2]),
			Sum: strings.TrimSpace(f[5])})
	}
	return s, lines.Err()
}
