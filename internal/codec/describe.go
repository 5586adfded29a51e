package codec

import (
	"fmt"

	"livego/internal/codec/aac"
	"livego/internal/codec/ac3"
	"livego/internal/codec/av1"
	"livego/internal/codec/flac"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/opus"
	"livego/internal/codec/vp9"
	"livego/internal/media"
)

// clockRate is the timescale of tracks without a sampling rate, in Hz.
const clockRate = 90000

// Describe fills t with what its Config says: sizes, rates, names and Timescale. t must not be
// shared yet. Unknown fields stay zero.
//
// lengthSize is the size of the NAL unit length fields in bytes, 0 for codecs without NAL units.
// It is an error if the configuration is malformed, or missing although NeedsConfig. Parameter
// sets in it that livego cannot parse are no error, because decoders may be able to.
func Describe(t *media.Track) (lengthSize int, err error) {
	if t.Timescale == 0 {
		t.Timescale = clockRate
	}
	if len(t.Config) == 0 {
		if NeedsConfig(t.Codec) {
			return 0, fmt.Errorf("%v without a configuration", t.Codec)
		}
		return 0, nil
	}
	switch t.Codec {
	case media.H264:
		return describeH264(t)
	case media.HEVC:
		return describeHEVC(t)
	case media.AV1:
		err = describeAV1(t)
	case media.VP9:
		err = describeVP9(t)
	case media.AAC:
		err = describeAAC(t)
	case media.Opus:
		err = describeOpus(t)
	case media.FLAC:
		err = describeFLAC(t)
	case media.AC3:
		err = describeAC3(t, ac3.ParseDAC3)
	case media.EAC3:
		err = describeAC3(t, ac3.ParseDEC3)
	}
	return 0, err
}

func describeH264(t *media.Track) (lengthSize int, err error) {
	c, err := h264.ParseConfig(t.Config)
	if err != nil {
		return 0, err
	}
	t.RFC6381 = c.RFC6381()
	if len(c.SPS) == 0 {
		return c.LengthSize, nil
	}
	if s, err := h264.ParseSPS(c.SPS[0]); err == nil {
		t.Width, t.Height, t.FrameRate = s.Width, s.Height, s.FrameRate
		t.BitDepth, t.Profile = s.BitDepth, s.ProfileName()
	}
	return c.LengthSize, nil
}

func describeHEVC(t *media.Track) (lengthSize int, err error) {
	c, err := h265.ParseConfig(t.Config)
	if err != nil {
		return 0, err
	}
	// The record repeats fields of the SPS. Decoders use the SPS, and some encoders leave the
	// record's fields empty.
	profile := c.ProfileTierLevel
	if len(c.SPS) > 0 {
		if s, err := h265.ParseSPS(c.SPS[0]); err == nil {
			profile = s.ProfileTierLevel
			t.Width, t.Height, t.FrameRate, t.BitDepth = s.Width, s.Height, s.FrameRate, s.BitDepth
		}
	}
	if t.FrameRate == 0 && len(c.VPS) > 0 {
		t.FrameRate = h265.VPSFrameRate(c.VPS[0])
	}
	t.RFC6381, t.Profile = profile.RFC6381(), profile.ProfileName()
	return c.LengthSize, nil
}

func describeAV1(t *media.Track) error {
	c, err := av1.ParseConfig(t.Config)
	if err != nil {
		return err
	}
	t.RFC6381, t.BitDepth, t.Profile = c.RFC6381(), c.BitDepth, c.ProfileName()
	if s, err := av1.ParseSequenceHeader(c.SequenceHeader); err == nil {
		t.RFC6381, t.BitDepth, t.Profile = s.RFC6381(), s.BitDepth, s.ProfileName()
		t.Width, t.Height, t.FrameRate = s.Width, s.Height, s.FrameRate
	}
	return nil
}

// describeVP9 sets no size: the record has none, keyframes do.
func describeVP9(t *media.Track) error {
	c, err := vp9.ParseConfig(t.Config)
	if err != nil {
		return err
	}
	t.RFC6381, t.BitDepth, t.Profile = c.RFC6381(), c.BitDepth, c.ProfileName()
	return nil
}

func describeAAC(t *media.Track) error {
	c, err := aac.ParseConfig(t.Config)
	if err != nil {
		return err
	}
	t.RFC6381, t.Profile = c.RFC6381(), c.ProfileName()
	t.Channels, t.FrameSamples = c.Channels, c.FrameSamples
	setSampleRate(t, c.SampleRate)
	return nil
}

func describeOpus(t *media.Track) error {
	h, err := opus.ParseHead(t.Config)
	if err != nil {
		return err
	}
	t.RFC6381, t.Channels = "opus", h.Channels
	setSampleRate(t, opus.SampleRate)
	return nil
}

func describeFLAC(t *media.Track) error {
	i, err := flac.ParseConfig(t.Config)
	if err != nil {
		return err
	}
	t.RFC6381, t.Channels, t.BitDepth = "fLaC", i.Channels, i.BitDepth
	if i.MinBlock == i.MaxBlock {
		t.FrameSamples = i.MaxBlock
	}
	setSampleRate(t, i.SampleRate)
	return nil
}

func describeAC3(t *media.Track, parse func([]byte) (*ac3.Stream, error)) error {
	s, err := parse(t.Config)
	if err != nil {
		return err
	}
	setAC3(t, s)
	return nil
}

func setAC3(t *media.Track, s *ac3.Stream) {
	t.RFC6381 = "ac-3"
	if s.Enhanced {
		t.RFC6381 = "ec-3"
	}
	t.Channels, t.FrameSamples = s.Channels, s.Samples
	setSampleRate(t, s.SampleRate)
}

// setSampleRate sets the sampling rate. It keeps the old one if hz is 0.
func setSampleRate(t *media.Track, hz int) {
	if hz > 0 {
		t.SampleRate, t.Timescale = hz, uint32(hz)
	}
}
