package playout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"livego/internal/media"
	"livego/internal/source"
)

// A TrackSelection says which tracks of a file are played, by their numbers among those of their
// kind. The zero TrackSelection is the first of each.
type TrackSelection struct {
	all          bool
	video, audio []uint8
}

// maxSelected bounds the tracks of each kind in a Choice.
const maxSelected = 16

// ParseTrackSelection reads a choice of tracks: "all", or "v:0,a:1" with the numbers that ffmpeg's
// -map has for them; kinds that are not named are not played. "" is the first of each.
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
			return c, fmt.Errorf("%q is no choice of tracks: all, or for example v:0,a:1", s)
		}
		*list = append(*list, uint8(n))
	}
	return c, nil
}

// IsDefault reports whether c is the first of each kind.
func (c TrackSelection) IsDefault() bool { return !c.all && c.video == nil && c.audio == nil }

// outputID returns the outputID that a track of s goes out by, 0 for the first of its kind; false for one that stays.
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
	if len(there) == 0 && len(list) > 0 { // a file without the wanted one plays the first
		return 0, t.ID == 0
	}
	i := slices.Index(there, t.ID)
	return uint8(max(i, 0)), i >= 0
}

// withID returns t under the number n.
func withID(t *media.Track, n uint8) *media.Track {
	if t.ID == n {
		return t
	}
	out := *t
	out.ID = n
	return &out
}

// sameTrack reports whether a and b are one track, though not of one configuration.
func sameTrack(a, b *media.Track) bool { return a.Kind == b.Kind && a.ID == b.ID }
