package codec

import (
	"errors"
	"fmt"

	"livego/internal/codec/aac"
	"livego/internal/codec/ac3"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/mp3"
	"livego/internal/codec/nal"
	"livego/internal/codec/vp9"
	"livego/internal/media"
)

// TrackFromFrame returns the track that payload belongs to. payload is a frame of a codec that
// needs no configuration, or of AAC with an ADTS header. base is what the container knows of the
// track. old is the track so far, nil at first; it is returned while it still describes the
// frames, so that callers can compare pointers.
//
// For AC-3, E-AC-3 and VP9 the track gets a Config, unless that of old still fits. For a frame
// that cannot be parsed, it returns old and an error: a caller that has a track may pass the
// frame on, because some encoders split frames at arbitrary places.
func TrackFromFrame(base media.Track, payload []byte, old *media.Track) (*media.Track, error) {
	t := &base
	if t.Timescale == 0 {
		t.Timescale = clockRate
	}
	switch t.Codec {
	case media.MP3:
		return fromMP3(t, payload, old)
	case media.AC3, media.EAC3:
		return fromAC3(t, payload, old)
	case media.VP9:
		return fromVP9(t, payload, old)
	case media.AAC:
		return fromADTS(t, payload, old)
	}
	if NeedsConfig(t.Codec) && old == nil {
		return nil, fmt.Errorf("%v without a configuration", t.Codec)
	}
	if old != nil {
		return old, nil
	}
	return t, nil
}

// HasParameterSets reports whether c carries its configuration in parameter sets: H.264 and HEVC.
func HasParameterSets(c media.Codec) bool { return c == media.H264 || c == media.HEVC }

// LacksParameterSets reports whether the configuration of t has no parameter sets although its
// codec needs them. They are in the frames then.
func LacksParameterSets(t *media.Track) bool {
	switch t.Codec {
	case media.H264:
		c, err := h264.ParseConfig(t.Config)
		return err == nil && len(c.SPS) == 0
	case media.HEVC:
		c, err := h265.ParseConfig(t.Config)
		return err == nil && len(c.SPS) == 0
	}
	return false
}

// TrackFromParameterSets is TrackFromFrame for codecs for which HasParameterSets is true, from
// encoders that send parameter sets only in frames: with start codes, or with four-byte length
// fields. A frame without them belongs to old; it is an error if old is nil.
func TrackFromParameterSets(base media.Track, payload []byte, old *media.Track) (*media.Track, error) {
	t := &base
	build, isSet := h264.ConfigFromAnnexB, h264.IsParameterSet
	if t.Codec == media.HEVC {
		build, isSet = h265.ConfigFromAnnexB, h265.IsParameterSet
	}
	config, err := build(parameterSetsOf(payload, isSet))
	switch {
	case old != nil && (err != nil || string(config) == string(old.Config)):
		return old, nil
	case err != nil:
		return nil, fmt.Errorf("%v without a configuration", t.Codec)
	}
	t.Config = config
	if _, err = Describe(t); err != nil {
		return old, err
	}
	return t, nil
}

// parameterSetsOf returns the parameter sets in a frame, with start codes.
func parameterSetsOf(payload []byte, isSet func(unit []byte) bool) (sets []byte) {
	next := nal.NextAnnexB
	if !nal.IsAnnexB(payload) {
		next = func(b []byte) (unit, rest []byte) {
			unit, rest, _ = nal.Next(b, 4)
			return unit, rest
		}
	}
	for unit, rest := next(payload); unit != nil; unit, rest = next(rest) {
		if isSet(unit) {
			sets = h264.AppendAnnexB(sets, unit)
		}
	}
	return sets
}

func fromADTS(t *media.Track, payload []byte, old *media.Track) (*media.Track, error) {
	h, ok := aac.ParseSingleADTS(payload)
	switch {
	case !ok && old != nil:
		return old, nil
	case !ok:
		return nil, errors.New("AAC without a configuration")
	}
	var err error
	if t.Config, err = h.Config(payload[h.HeaderLength:]); err != nil {
		return old, err
	}
	if old != nil && string(t.Config) == string(old.Config) {
		return old, nil
	}
	if _, err = Describe(t); err != nil {
		return old, err
	}
	return t, nil
}

func fromMP3(t *media.Track, payload []byte, old *media.Track) (*media.Track, error) {
	h, err := mp3.ParseHeader(payload)
	switch {
	case err != nil:
		return old, err
	case old != nil && old.SampleRate == h.SampleRate && old.Channels == h.Channels:
		return old, nil
	}
	t.RFC6381 = "mp4a.40.34"
	t.Channels, t.FrameSamples = h.Channels, h.Samples*mp3.CountFrames(payload)
	setSampleRate(t, h.SampleRate)
	return t, nil
}

func fromAC3(t *media.Track, payload []byte, old *media.Track) (*media.Track, error) {
	s, err := ac3.ParseAccessUnit(payload)
	switch {
	case err != nil:
		return old, err
	case s.Enhanced != (t.Codec == media.EAC3):
		return old, errors.New("the frame is AC-3 and the track E-AC-3, or the reverse")
	case old != nil && sameAC3(old, s):
		return old, nil
	}
	t.Config = s.Config()
	setAC3(t, s)
	return t, nil
}

// sameAC3 reports whether t describes s. The bit rate may differ, as in any codec.
func sameAC3(t *media.Track, s *ac3.Stream) bool {
	parse := ac3.ParseDAC3
	if s.Enhanced {
		parse = ac3.ParseDEC3
	}
	known, err := parse(t.Config)
	return err == nil && known.Compatible(s) && t.SampleRate == s.SampleRate && t.FrameSamples != 0
}

func fromVP9(t *media.Track, payload []byte, old *media.Track) (*media.Track, error) {
	h, err := vp9.ParseHeader(payload)
	switch {
	case err != nil:
		return old, err
	case !h.KeyFrame && old != nil:
		return old, nil
	case !h.KeyFrame: // the codec is all that is known before the first keyframe
		return t, nil
	}
	made, err := h.Config(t.FrameRate)
	switch {
	case old != nil && made != nil && configFits(old, h, made):
		t.Config = old.Config
	case err == nil:
		t.Config = made.Append(nil)
	}
	if old != nil && old.Width == h.Width && old.Height == h.Height && string(old.Config) == string(t.Config) {
		return old, nil
	}
	t.Width, t.Height, t.BitDepth = h.Width, h.Height, h.BitDepth
	if len(t.Config) == 0 {
		return t, nil
	}
	return t, describeVP9(t)
}

// configFits reports whether the configuration of old fits the keyframe h, for which made is the
// computed one. A level that is too low is kept if the encoder declared it. If pictures have
// grown since, the declared level was for the smaller ones.
func configFits(old *media.Track, h vp9.Header, made *vp9.Config) bool {
	c, err := vp9.ParseConfig(old.Config)
	grown := old.Width != 0 && h.Width*h.Height > old.Width*old.Height
	return err == nil && c.Profile == made.Profile && c.BitDepth == made.BitDepth && (c.Level >= made.Level || !grown)
}

// PictureSize returns the bytes of payload, a frame of the video track t, without the filler data with
// which encoders keep a constant bitrate. lengthSize is the result of Describe for t.
func PictureSize(t *media.Track, lengthSize int, payload []byte) int {
	var isFiller func([]byte) bool
	switch t.Codec {
	case media.H264:
		isFiller = func(unit []byte) bool { return h264.Type(unit) == h264.TypeFiller }
	case media.HEVC:
		isFiller = func(unit []byte) bool { return h265.Type(unit) == h265.TypeFiller }
	default:
		return len(payload)
	}
	size := len(payload)
	for unit, rest, err := nal.Next(payload, lengthSize); unit != nil && err == nil; unit, rest, err = nal.Next(rest,
		lengthSize) {
		if isFiller(unit) {
			size -= len(unit)
		}
	}
	return size
}
