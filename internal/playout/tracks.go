package playout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"livego/internal/media"
	"livego/internal/source"
)

// A TrackSelection selects the tracks of a file by their numbers among those of their kind. The
// zero TrackSelection selects the first of each kind.
type TrackSelection struct {
	all          bool
	video, audio []uint8
}

// maxSelected limits the tracks of each kind in a TrackSelection.
const maxSelected = 16

// ParseTrackSelection parses "all", or "v:0,a:1" with the numbers of ffmpeg's -map; kinds that
// are not named are not sent. "" selects the first of each kind.
func ParseTrackSelection(s string) (c TrackSelection, err error) {
	switch s {
	case "":
		return c, nil
	case "all":
		return TrackSelection{all: true}, nil
	}
	for word := range strings.SplitSeq(s, ",") {
		kind, number, _ := strings.Cut(word, ":")
		n, err := strconv.ParseUint(number, 10, 8)
		list := map[string]*[]uint8{"v": &c.video, "a": &c.audio}[kind]
		if err != nil || list == nil || slices.Contains(*list, uint8(n)) || len(*list) == maxSelected {
			return c, fmt.Errorf("invalid track selection %q: use all, or for example v:0,a:1", s)
		}
		*list = append(*list, uint8(n))
	}
	return c, nil
}

// IsDefault reports whether c selects the first of each kind.
func (c TrackSelection) IsDefault() bool { return !c.all && c.video == nil && c.audio == nil }

// outputID returns the ID with which track t of s is sent, 0 for the first of its kind. It
// returns false for a track that is not sent.
func (c TrackSelection) outputID(s *source.Source, t *media.Track) (uint8, bool) {
	switch {
	case t.Kind != media.Video && t.Kind != media.Audio:
		return 0, false
	case c.all:
		return t.ID, true
	case c.IsDefault():
		return 0, t.ID == 0
	}
	list := c.video
	if t.Kind == media.Audio {
		list = c.audio
	}
	var there []uint8
	for _, n := range list {
		if slices.ContainsFunc(s.Streams(),
			func(st media.Stream) bool { return st.Track.Kind == t.Kind && st.Track.ID == n }) {
			there = append(there, n)
		}
	}
	if len(there) == 0 && len(list) > 0 { // the file has none of the selected tracks: send its first
		return 0, t.ID == 0
	}
	i := slices.Index(there, t.ID)
	return uint8(max(i, 0)), i >= 0
}

// withID returns t with the ID n.
func withID(t *media.Track, n uint8) *media.Track {
	if t.ID == n {
		return t
	}
	out := *t
	out.ID = n
	return &out
}

// sameTrack reports whether a and b are one track, possibly with different configurations.
func sameTrack(a, b *media.Track) bool { return a.Kind == b.Kind && a.ID == b.ID }
