package flv

import (
	"errors"

	"livego/internal/codec"
	"livego/internal/media"
)

// clockRate is the timescale of script data.
const clockRate = 90000

// track returns what p says about its track, which is of kind k.
func (p packet) track(k media.Kind) media.Track {
	return media.Track{Kind: k, Codec: p.codec, Label: p.label}
}

// newTrack returns the track that configuration packet p describes, and the size of the length
// fields of its NAL units, if it has such.
func newTrack(k media.Kind, p packet) (t *media.Track, lengthSize int, err error) {
	if len(p.data) == 0 {
		return nil, 0, errors.New("empty")
	}
	base := p.track(k)
	base.Config = p.data
	lengthSize, err = codec.Describe(&base)
	if err != nil {
		return nil, 0, err
	}
	return &base, lengthSize, nil
}
