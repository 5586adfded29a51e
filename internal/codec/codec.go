// Package codec is the door to the packages below it: what a track's configuration and frames say,
// whatever the codec, so that no container has a switch over codecs. It knows no container.
package codec

import (
	"time"

	"livego/internal/codec/aac"
	"livego/internal/codec/ac3"
	"livego/internal/codec/av1"
	"livego/internal/codec/flac"
	"livego/internal/codec/h264"
	"livego/internal/codec/h265"
	"livego/internal/codec/mp3"
	"livego/internal/codec/nal"
	"livego/internal/codec/opus"
	"livego/internal/codec/vp9"
	"livego/internal/media"
)

// NeedsConfig reports whether frames of c mean nothing before a configuration.
func NeedsConfig(c media.Codec) bool {
	switch c {
	case media.H264, media.HEVC, media.AV1, media.AAC, media.Opus, media.FLAC:
		return true
	}
	return false
}

// ConfigName returns what the field calls the configuration of c, "" for a codec that needs none.
func ConfigName(c media.Codec) string {
	switch c {
	case media.H264:
		return "AVCDecoderConfigurationRecord"
	case media.HEVC:
		return "HEVCDecoderConfigurationRecord"
	case media.AV1:
		return "AV1CodecConfigurationRecord"
	case media.AAC:
		return "AudioSpecificConfig"
	case media.Opus:
		return "OpusHead"
	case media.FLAC:
		return "STREAMINFO"
	}
	return ""
}

// SelfDescribing reports whether frames of c say what the track is: each has to be shown to TrackFromFrame.
func SelfDescribing(c media.Codec) bool {
	switch c {
	case media.VP9, media.MP3, media.AC3, media.EAC3:
		return true
	}
	return false
}

// RandomAccess tells whether a decoder may start at payload, a frame of t: by the frame itself for
// the codecs that livego can read, elsewhere by keyFlag, what the packaging claims. Every frame of
// sound is such a point. lengthSize is what Describe returned for t. A frame that makes no sense is
// an error.
//
// leading tells that payload is not decodable by who starts with the random access point before it.
func RandomAccess(t *media.Track, lengthSize int, keyFlag bool, payload []byte) (rap media.RandomAccess, leading bool,
	err error) {
	switch t.Codec {
	case media.H264:
		rap, err = h264.RandomAccess(payload, lengthSize)
	case media.HEVC:
		var a h265.AccessUnit
		a, err = h265.Classify(payload, lengthSize)
		rap, leading = a.RAP, a.RASL
	case media.AV1:
		rap, err = av1.RandomAccess(payload)
	case media.VP9:
		rap, err = vp9.RandomAccess(payload)
	default:
		if keyFlag || t.Kind == media.Audio {
			rap = media.Keyframe
		}
	}
	return rap, leading, err
}

// Clean returns payload, a frame of t, in the form that every player reads: H.264 and HEVC without empty NAL
// units, without units that cannot be any (damaged is how many of them would have mattered), and without
// bytes that follow the last; start codes of four bytes, which some encoders put where length fields belong,
// become length fields. AAC loses the header of ADTS. The frame is changed in place. It is an error when the
// lengths do not add up. lengthSize is what Describe returned for t.
func Clean(t *media.Track, lengthSize int, payload []byte) (clean []byte, damaged int, err error) {
	var isUnit, matters func([]byte) bool
	switch t.Codec {
	case media.H264:
		isUnit, matters = h264.IsValidUnit, h264.AffectsPicture
	case media.HEVC:
		isUnit, matters = h265.IsValidUnit, h265.AffectsPicture
	case media.AAC:
		for h, ok := aac.ParseSingleADTS(payload); ok; h, ok = aac.ParseSingleADTS(payload) {
			payload = payload[h.HeaderLength:]
		}
		return payload, 0, nil
	default:
		return payload, 0, nil
	}
	if lengthSize == 4 && nal.IsAnnexB(payload) {
		payload = nal.FromAnnexB(payload)
	}
	clean, err = nal.Clean(payload, lengthSize, func(unit []byte) bool {
		keep := isUnit(unit)
		if !keep && matters(unit) {
			damaged++
		}
		return keep
	})
	return clean, damaged, err
}

// Cut cuts the first frame off payload, of codec c, where that is several frames: AAC behind
// headers of ADTS. duration is that of the frame. rest is nil where payload is one frame.
func Cut(c media.Codec, payload []byte) (frame, rest []byte, duration time.Duration) {
	if c != media.AAC {
		return payload, nil, 0
	}
	h, frame, rest, ok := aac.CutADTS(payload)
	if !ok {
		return payload, nil, 0
	}
	return frame, rest, 1024 * time.Second / time.Duration(h.SampleRate)
}

// NormalizeConfig returns a configuration of c in the form of media.Track.Config where it comes in another that
// decoders know: the parameter sets of H.264 and HEVC with start codes. Any other is returned as it is.
func NormalizeConfig(c media.Codec, b []byte) []byte {
	var build func([]byte) ([]byte, error)
	switch {
	case !nal.HasStartCode(b):
		return b
	case c == media.H264:
		build = h264.ConfigFromAnnexB
	case c == media.HEVC:
		build = h265.ConfigFromAnnexB
	default:
		return b
	}
	if made, err := build(b); err == nil {
		return made
	}
	return b
}

// ErrNothingToDecode is returned by RandomAccess for a frame in which a decoder finds nothing to
// read, though nothing is wrong with it.
var ErrNothingToDecode = nal.ErrNoUnit

// Silence returns a frame of the audio track t in which nothing is heard, nil where there is none at hand.
// Shared: do not modify.
func Silence(t *media.Track) []byte {
	if t.Codec != media.AAC {
		return nil
	}
	c, err := aac.ParseConfig(t.Config)
	if err != nil {
		return nil
	}
	return c.Silence()
}

// Samples returns how many samples payload holds, a frame of the audio track t, per channel and at
// t.SampleRate; for Opus this is 48 kHz. It is 0 when the frame does not tell.
func Samples(t *media.Track, payload []byte) int {
	n := 0
	switch t.Codec {
	case media.Opus:
		n, _ = opus.Samples(payload)
	case media.FLAC:
		n, _ = flac.Samples(payload)
	case media.MP3:
		if h, err := mp3.ParseHeader(payload); err == nil {
			n = h.Samples * mp3.CountFrames(payload)
		}
	case media.AC3, media.EAC3:
		if s, err := ac3.ParseAccessUnit(payload); err == nil {
			n = s.Samples
		}
	default:
		n = t.FrameSamples
	}
	return n
}
