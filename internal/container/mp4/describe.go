package mp4

import (
	"livego/internal/codec/aac"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/media"
)

// describe fills in what t's configuration tells.
func describe(t *media.Track) (lengthSize int, err error) {
	switch t.Codec {
	case media.H264:
		c, err := h264.ParseConfig(t.Config)
		if err != nil {
			return 0, err
		}
		t.RFC6381 = c.RFC6381()
		if len(c.SPS) > 0 {
			// An SPS that we cannot read may be one that decoders can: the size stays as the container says.
			if s, err := h264.ParseSPS(c.SPS[0]); err == nil {
				t.Width, t.Height, t.FrameRate = s.Width, s.Height, s.FrameRate
			}
		}
		return c.LengthSize, nil
	case media.HEVC:
		return h265.LengthSize(t.Config)
	case media.AAC:
		c, err := aac.Parse(t.Config)
		if err != nil {
			return 0, err
		}
		t.RFC6381 = c.RFC6381()
		t.Channels, t.FrameSamples = c.Channels, c.FrameSamples
		t.SampleRate, t.Timescale = c.SampleRate, uint32(c.SampleRate)
	}
	return 0, nil
}
