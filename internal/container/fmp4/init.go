package fmp4

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"livego/internal/media"
)

// Init returns the init segment of tracks, ftyp and moov, in any order: the Media Initialization
// Section of HLS. It returns an error for tracks that Carries rejects, for two of the same kind and
// ID, and for none at all. Width and Height are written as the track has them.
func Init(tracks []*media.Track) ([]byte, error) {
	if len(tracks) == 0 {
		return nil, errors.New("fmp4: no tracks")
	}
	tracks = slices.SortedFunc(slices.Values(tracks),
		func(a, b *media.Track) int { return cmp.Compare(trackID(a), trackID(b)) })
	const movieClock = 1000 // timescale of durations, which are all 0
	last := tracks[len(tracks)-1]
	moov := [][]byte{full("mvhd", 0, 0,
		u32(0, 0, movieClock, 0, 0x00010000), u16(0x0100, 0), u32(0, 0), matrix(), // rate 1, volume 1
		u32(0, 0, 0, 0, 0, 0, trackID(last)+1),
	)}
	mvex := make([][]byte, 0, len(tracks))
	for i, t := range tracks {
		if err := check(t); err != nil {
			return nil, err
		}
		if i > 0 && trackID(t) == trackID(tracks[i-1]) {
			return nil, fmt.Errorf("fmp4: two %s tracks with ID %d", t.Kind, t.ID)
		}
		moov = append(moov, trak(t))
		mvex = append(mvex, full("trex", 0, 0, u32(trackID(t), 1, 0, 0, 0))) // sample description 1
	}
	moov = append(moov, box("mvex", mvex...))
	return slices.Concat(ftyp(tracks), box("moov", moov...)), nil
}

// ftyp returns the brand iso6, which has tfdt and default-base-is-moof and which HLS requires (RFC
// 8216 section 3.3). CMAF's own brand is for files of one track, and for video only if it describes
// its colors.
func ftyp(tracks []*media.Track) []byte {
	brands := "iso6mp42"
	if len(tracks) == 1 && tracks[0].Kind == media.Audio {
		brands += "cmfc"
	}
	if slices.ContainsFunc(tracks, func(t *media.Track) bool { return t.Codec == media.AV1 }) {
		brands += "av01" // AV1 in ISOBMFF, section 2.1
	}
	return box("ftyp", []byte("iso6"), u32(0), []byte(brands))
}

// matrix returns the identity transformation.
func matrix() []byte { return u32(0x00010000, 0, 0, 0, 0x00010000, 0, 0, 0, 0x40000000) }

// trak describes t without samples: those are in fragments. The language is "und".
func trak(t *media.Track) []byte {
	const (
		enabled    = 7 // track_enabled, track_in_movie, track_in_preview
		undefined  = 0x55C4
		sameFile   = 1
		fullVolume = 0x0100
	)
	handler, header := "vide", full("vmhd", 0, 1, u16(0, 0, 0, 0))
	var volume uint16
	if t.Kind == media.Audio {
		handler, header = "soun", full("smhd", 0, 0, u16(0, 0))
		volume = fullVolume
	}
	w, h := size(t)
	return box("trak",
		full("tkhd", 0, enabled,
			u32(0, 0, trackID(t), 0, 0, 0, 0), u16(0, 0, volume, 0), matrix(), u32(uint32(w)<<16, uint32(h)<<16)),
		box("mdia",
			full("mdhd", 0, 0, u32(0, 0, t.Timescale, 0), u16(undefined, 0)),
			full("hdlr", 0, 0, u32(0), []byte(handler), u32(0, 0, 0), []byte{0}),
			box("minf",
				header,
				box("dinf", full("dref", 0, 0, u32(1), full("url ", 0, sameFile))),
				box("stbl",
					full("stsd", 0, 0, u32(1), sampleEntry(t)),
					full("stts", 0, 0, u32(0)),
					full("stsc", 0, 0, u32(0)),
					full("stsz", 0, 0, u32(0, 0)),
					full("stco", 0, 0, u32(0)),
				),
			),
		),
	)
}

// size returns width and height in pixels, 0 for audio and if they are unknown or do not fit the
// fields.
func size(t *media.Track) (w, h uint16) {
	if t.Kind != media.Video || t.Width != int(uint16(t.Width)) || t.Height != int(uint16(t.Height)) {
		return 0, 0
	}
	return uint16(t.Width), uint16(t.Height)
}
