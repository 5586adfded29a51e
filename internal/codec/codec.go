// Package codec says of any coding what a server needs to know of it. It asks the packages below it.
package codec

import (
	"livego/internal/codec/aac"
	"livego/internal/codec/ac3"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/mp3"
	"livego/internal/media"
)

// DescribedByFrames reports whether FromFrame makes the tracks of c.
func DescribedByFrames(c media.Codec) bool {
	switch c {
	case media.MP3, media.AC3, media.EAC3, media.VP9:
		return true
	}
	return false
}

// Describe fills in what t's configuration tells.
func Describe(t *media.Track) (lengthSize int, err error) {
	switch t.Codec {
	case media.H264:
		c, err := h264.ParseConfig(t.Config)
		if err != nil {
			return 0, err
		}
		t.RFC6381 = c.RFC6381()
		if len(c.SPS) > 0 {
			if s, err := h264.ParseSPS(c.SPS[0]); err == nil {
				t.Width, t.Height, t.FrameRate = s.Width, s.Height, s.FrameRate
			}
		}
		return c.LengthSize, nil
	case media.HEVC:
		c, err := h265.ParseConfig(t.Config)
		if err != nil {
			return 0, err
		}
		if len(c.SPS) > 0 {
			if s, err := h265.ParseSPS(c.SPS[0]); err == nil {
				t.Width, t.Height, t.FrameRate = s.Width, s.Height, s.FrameRate
			}
		}
		return c.LengthSize, nil
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

// FromFrame makes the track of a coding that has no configuration from one of its frames.
func FromFrame(base media.Track, payload []byte, old *media.Track) (*media.Track, error) {
	if base.Codec == media.MP3 {
		h, err := mp3.Parse(payload)
		if err != nil || old != nil && old.SampleRate == h.SampleRate && old.Channels == h.Channels {
			return old, err
		}
		base.SampleRate, base.Channels, base.FrameSamples, base.Timescale = h.SampleRate, h.Channels, h.Samples, uint32(h.SampleRate)
		base.RFC6381 = "mp4a.40.34"
	} else if base.Codec == media.AC3 || base.Codec == media.EAC3 {
		h, err := ac3.ParseUnit(payload)
		if err != nil || old != nil && old.SampleRate == h.SampleRate && old.Channels == h.Channels {
			return old, err
		}
		base.SampleRate, base.Channels, base.FrameSamples, base.Timescale = h.SampleRate, h.Channels, h.Samples, uint32(h.SampleRate)
		base.Config = h.Config()
	} else if old != nil {
		return old, nil
	}
	return &base, nil
}

// RandomAccess tells whether a decoder may start at a frame of t.
func RandomAccess(t *media.Track, lengthSize int, keyFlag bool, payload []byte) (media.RandomAccess, error) {
	switch {
	case t.Codec == media.H264:
		return h264.RandomAccess(payload, lengthSize)
	case t.Codec == media.HEVC:
		return h265.RandomAccess(payload, lengthSize)
	case keyFlag || t.Kind == media.Audio:
		return media.Key, nil
	}
	return media.NoAccess, nil
}

// Samples returns how many samples per channel a frame of t has, 0 if unknown.
func Samples(t *media.Track, _ []byte) int { return t.FrameSamples }
