package flv

import (
	"errors"

	"livego/internal/codec/aac"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/mp3"
	"livego/internal/media"
)

// clockRate is the time scale of tracks that have no sampling rate.
const clockRate = 90000

// needsHeader reports whether frames of c mean nothing before a configuration.
func needsHeader(c media.Codec) bool {
	switch c {
	case media.H264, media.HEVC, media.AV1, media.AAC, media.Opus, media.FLAC:
		return true
	}
	return false
}

// newTrack makes the track that a configuration packet p describes. lengthSize is that of its NAL units, where it has such.
func newTrack(k media.Kind, p packet) (t *media.Track, lengthSize int, err error) {
	t = &media.Track{
		Kind: k, Codec: p.codec, Config: p.data, Label: p.label, Enhanced: p.enhanced, Timescale: clockRate,
	}
	if len(p.data) == 0 {
		return nil, 0, errors.New("empty")
	}
	switch p.codec {
	case media.H264:
		lengthSize, err = describeH264(t)
	case media.HEVC:
		lengthSize, err = describeHEVC(t)
	case media.AV1:
		err = checkAV1(t.Config)
	case media.AAC:
		err = describeAAC(t)
	case media.Opus:
		err = describeOpus(t)
	case media.FLAC:
		err = describeFLAC(t)
	}
	if err != nil {
		return nil, 0, err
	}
	return t, lengthSize, nil
}

func describeH264(t *media.Track) (lengthSize int, err error) {
	c, err := h264.ParseConfig(t.Config)
	if err != nil {
		return 0, err
	}
	t.RFC6381 = c.RFC6381()
	if len(c.SPS) > 0 {
		// An SPS that we cannot read may be one that decoders can: the size stays unknown.
		if s, err := h264.ParseSPS(c.SPS[0]); err == nil {
			t.Width, t.Height, t.FrameRate = s.Width, s.Height, s.FrameRate
		}
	}
	return c.LengthSize, nil
}

func describeHEVC(t *media.Track) (lengthSize int, err error) {
	c, err := h265.ParseConfig(t.Config)
	if err != nil {
		return 0, err
	}
	return c.LengthSize, nil
}

// checkAV1 looks at marker and version of an AV1CodecConfigurationRecord (AV1 in ISOBMFF, section 2.3.3).
func checkAV1(av1C []byte) error {
	if len(av1C) < 4 || av1C[0] != 0x81 {
		return errors.New("malformed av1C")
	}
	return nil
}

func describeAAC(t *media.Track) error {
	c, err := aac.Parse(t.Config)
	if err != nil {
		return err
	}
	t.RFC6381 = c.RFC6381()
	t.Channels, t.FrameSamples = c.Channels, c.FrameSamples
	setRate(t, c.SampleRate)
	return nil
}

// describeOpus reads an identification header (RFC 7845 section 5.1). Opus always decodes to 48 kHz.
func describeOpus(t *media.Track) error {
	b := t.Config
	if len(b) < 19 || string(b[:8]) != "OpusHead" || b[9] == 0 {
		return errors.New("malformed OpusHead")
	}
	t.Channels = int(b[9])
	if family := b[18]; family == 0 && t.Channels > 2 || family != 0 && len(b) < 21+t.Channels {
		return errors.New("OpusHead without its channel mapping")
	}
	t.RFC6381 = "opus"
	setRate(t, 48000)
	return nil
}

// describeFLAC reads a STREAMINFO block behind "fLaC" and its block header (RFC 9639 sections 6, 8.1 and 8.2).
func describeFLAC(t *media.Track) error {
	b := t.Config
	if len(b) < 8+34 || string(b[:4]) != "fLaC" || b[4]&0x7F != 0 {
		return errors.New("malformed FLAC header")
	}
	b = b[8:]
	if smallest, largest := int(b[0])<<8|int(b[1]), int(b[2])<<8|int(b[3]); smallest == largest {
		t.FrameSamples = largest
	}
	rate := int(b[10])<<12 | int(b[11])<<4 | int(b[12])>>4
	if rate == 0 {
		return errors.New("FLAC sampling rate 0")
	}
	t.Channels = int(b[12]>>1&7) + 1
	t.RFC6381 = "fLaC"
	setRate(t, rate)
	return nil
}

// fromFrame makes the track of a codec that has no configuration, from one of its frames. It returns old where that still
// describes the frame.
func fromFrame(k media.Kind, p packet, old *media.Track) (*media.Track, error) {
	t := &media.Track{Kind: k, Codec: p.codec, Label: p.label, Enhanced: p.enhanced, Timescale: clockRate}
	if p.codec != media.MP3 {
		return t, nil
	}
	h, err := mp3.Parse(p.data)
	switch {
	case err != nil:
		return old, err
	case old != nil && old.SampleRate == h.SampleRate && old.Channels == h.Channels:
		return old, nil
	}
	t.RFC6381 = "mp4a.40.34"
	t.Channels, t.FrameSamples = h.Channels, h.Samples*mp3.Frames(p.data)
	setRate(t, h.SampleRate)
	return t, nil
}

func setRate(t *media.Track, hz int) { t.SampleRate, t.Timescale = hz, uint32(hz) }
