package flv

import (
	"bytes"
	"encoding/binary"
	"time"

	"livego/internal/media"
)

// maxBodyHeader is the longest header of a frame's body in bytes: enhanced form, with track ID,
// FourCC and composition time.
const maxBodyHeader = 10

// A Dialect selects the variant of the format that a player needs. The zero Dialect fits every
// player: legacy codec IDs where they exist, since old players do not know FourCC, and one track of
// each kind.
type Dialect struct {
	Multitrack bool // several tracks of a kind: those with an ID above 0 use Multitrack messages
	LegacyHEVC bool // HEVC uses codec ID 12, as before Enhanced RTMP

	// NoColorInfo omits color information, for players that stop at a packet which is neither a
	// sequence header nor a frame.
	NoColorInfo bool
}

// A bodyFormat is how frames of a codec are encoded. The form that the encoder used does not
// matter: every player understands the legacy IDs, and only the FourCC form can name the other
// codecs.
type bodyFormat uint8

const (
	legacy bodyFormat = iota
	enhanced
	verbatim // the body is the payload
)

func (d Dialect) formatOf(t *media.Track) bodyFormat {
	switch {
	case t.Codec == media.Passthrough || t.Codec == media.ScriptData:
		return verbatim
	case d.inMultitrack(t):
		return enhanced
	}
	switch t.Codec {
	case media.H264, media.AAC, media.MP3:
		return legacy
	case media.HEVC:
		if d.LegacyHEVC {
			return legacy
		}
	}
	return enhanced
}

// Tracks returns the tracks of p that the viewer gets: all, or the defaults if it has no multitrack.
func (d Dialect) Tracks(p *media.Program) []*media.Track {
	if d.Multitrack {
		return p.Tracks
	}
	return p.Defaults()
}

func (d Dialect) inMultitrack(t *media.Track) bool { return d.Multitrack && t.ID != 0 }

// RequiredFourCC returns the FourCC that a player must support to play t, "" if t is encoded
// without one.
func (d Dialect) RequiredFourCC(t *media.Track) string {
	if d.formatOf(t) != enhanced {
		return ""
	}
	return FourCC(t.Codec)
}

// TagBody returns the body of the message that carries f in two parts: a header of 0 to 10 bytes,
// owned by the caller, and f's payload, which is shared: do not modify.
func (d Dialect) TagBody(f *media.Frame) (header, payload []byte) {
	return d.appendBodyHeader(make([]byte, 0, maxBodyHeader), f), f.Payload
}

func (d Dialect) appendBodyHeader(dst []byte, f *media.Frame) []byte {
	t := f.Track
	hasCTS := t.Codec == media.H264 || t.Codec == media.HEVC
	switch form := d.formatOf(t); {
	case form == verbatim:
		return dst
	case form == enhanced && !hasCTS:
		return d.appendFourCC(dst, t, frameType(f), packetCodedFrames)
	case form == enhanced && f.PTS == f.DTS:
		return d.appendFourCC(dst, t, frameType(f), packetCodedFramesX)
	case form == enhanced:
		return appendCTS(d.appendFourCC(dst, t, frameType(f), packetCodedFrames), f)
	case hasCTS:
		return appendCTS(append(dst, frameType(f)<<4|legacyVideo(t.Codec), legacyFrame), f)
	case t.Codec == media.AAC:
		return append(dst, aacFlags, legacyFrame)
	}
	return append(dst, mp3Flags(t))
}

// SequenceHeader returns the body of the message that must precede the frames of t, nil if t needs
// none. Enhanced RTMP has no sequence header for AC-3 and E-AC-3: their configuration is for files.
func (d Dialect) SequenceHeader(t *media.Track) []byte {
	if len(t.Config) == 0 || !hasSequenceHeader(t.Codec) {
		return nil
	}
	config := t.Config
	if t.Codec == media.FLAC {
		config = bytes.TrimPrefix(config, []byte(flacPrefix)) // ffmpeg sends it without
	}
	dst := make([]byte, 0, maxBodyHeader+len(config))
	switch form := d.formatOf(t); {
	case form == verbatim:
	case form == enhanced:
		dst = d.appendFourCC(dst, t, frameKey, packetSequenceStart)
	case t.Codec == media.AAC:
		dst = append(dst, aacFlags, legacyHeader)
	default:
		dst = append(dst, frameKey<<4|legacyVideo(t.Codec), legacyHeader, 0, 0, 0)
	}
	return append(dst, config...)
}

// colorMetadata returns the body of the message with the color information of t, nil if there is
// none or the legacy form is used, which cannot carry it. The specification gives its frame type no
// meaning; ffmpeg reads every type but a command as a picture.
func (d Dialect) colorMetadata(t *media.Track) []byte {
	if d.NoColorInfo || len(t.ColorInfo) == 0 || d.formatOf(t) != enhanced {
		return nil
	}
	return append(d.appendFourCC(make([]byte, 0, maxBodyHeader+len(t.ColorInfo)), t, frameCommand, packetExtra),
		t.ColorInfo...)
}

// legacyVideo returns the legacy codec ID of c, H.264 or HEVC.
func legacyVideo(c media.Codec) byte {
	if c == media.HEVC {
		return videoHEVC
	}
	return videoH264
}

// aacFlags means 44.1 kHz, 16 bits and stereo for every AAC stream: the AudioSpecificConfig decides
// (FLV clause E.4.2.1).
const aacFlags = soundAAC<<4 | 0xF

// mp3Flags returns the first byte of MP3 bodies. A sample rate that FLV cannot express becomes the
// nearest one: decoders use the frame headers.
func mp3Flags(t *media.Track) byte {
	b := byte(soundMP3<<4 | 2) // 16 bits
	switch {
	case t.SampleRate == 8000:
		b = soundMP3At8k<<4 | 2
	case t.SampleRate >= 32000:
		b |= 3 << 2
	case t.SampleRate >= 16000:
		b |= 2 << 2
	default:
		b |= 1 << 2
	}
	if t.Channels > 1 {
		b |= 1
	}
	return b
}

// frameType returns the video frame type of f: by the bitstream for codecs that livego parses, by
// the encoder's keyframe flag for others.
func frameType(f *media.Frame) byte {
	switch f.Track.Codec {
	case media.H264, media.HEVC, media.AV1, media.VP9:
		if f.RAP == media.NoRandomAccess {
			return frameInter
		}
		return frameKey
	}
	if f.KeyFlag || f.RAP != media.NoRandomAccess {
		return frameKey
	}
	return frameInter
}

// appendFourCC appends the FourCC form's header for a packet of t.
func (d Dialect) appendFourCC(dst []byte, t *media.Track, frameType, kind byte) []byte {
	first, cc := byte(soundEnhanced<<4), fourCCs[t.Codec]
	if t.Kind == media.Video {
		first = isEnhancedVideo | frameType<<4
	}
	if !d.inMultitrack(t) {
		return append(append(dst, first|kind), cc[:]...)
	}
	dst = append(append(dst, first|multitrack(t.Kind), oneTrack<<4|kind), cc[:]...)
	return append(dst, t.ID)
}

func appendCTS(dst []byte, f *media.Frame) []byte {
	return appendUint24(dst, uint32((f.PTS-f.DTS)/time.Millisecond))
}

// codecID returns the codec ID of t in onMetaData: the legacy ID if that form is used, else the
// FourCC as a number; 0 if unknown.
func (d Dialect) codecID(t *media.Track) float64 {
	switch {
	case t == nil:
		return 0
	case d.formatOf(t) != legacy:
		return fourCCs[t.Codec].number()
	case t.Codec == media.AAC:
		return soundAAC
	case t.Codec == media.MP3:
		return soundMP3
	}
	return float64(legacyVideo(t.Codec))
}

// Timestamp returns f's DTS as the 32-bit timestamp of its message, in milliseconds.
func Timestamp(f *media.Frame) uint32 { return uint32(f.DTS / time.Millisecond) }

func appendUint24(dst []byte, v uint32) []byte {
	return append(dst, byte(v>>16), byte(v>>8), byte(v))
}

// FileHeader returns the start of an FLV file or stream: the header and the first PreviousTagSize
// (FLV clauses E.2, E.3).
func FileHeader(hasVideo, hasAudio bool) []byte {
	b := []byte{'F', 'L', 'V', 1, 0, 0, 0, 0, fileHeaderSize, 0, 0, 0, 0}
	if hasVideo {
		b[4] |= 1
	}
	if hasAudio {
		b[4] |= 4
	}
	return b
}

const (
	fileHeaderSize = 9
	tagHeaderSize  = 11
)

// appendTagHeader appends the header of a tag with a body of n bytes (FLV clause E.4.1).
func appendTagHeader(dst []byte, typ uint8, timestamp uint32, n int) []byte {
	dst = appendUint24(append(dst, typ), uint32(n))
	dst = append(appendUint24(dst, timestamp), byte(timestamp>>24))
	return append(dst, 0, 0, 0) // StreamID
}

// AppendTag appends a tag and its PreviousTagSize to dst. timestamp is in milliseconds.
func AppendTag(dst []byte, typ uint8, timestamp uint32, body []byte) []byte {
	dst = appendTagHeader(dst, typ, timestamp, len(body))
	dst = append(dst, body...)
	return binary.BigEndian.AppendUint32(dst, uint32(tagHeaderSize+len(body)))
}

// EncodeTag encodes f as an FLV tag with its PreviousTagSize. The payload is f's, not copied.
func (d Dialect) EncodeTag(f *media.Frame) [][]byte {
	b := make([]byte, tagHeaderSize, tagHeaderSize+maxBodyHeader+4)
	b = d.appendBodyHeader(b, f)
	n := len(b) - tagHeaderSize + len(f.Payload)
	appendTagHeader(b[:0], MessageType(f.Track.Kind), Timestamp(f), n)
	tail := binary.BigEndian.AppendUint32(b[len(b):], uint32(tagHeaderSize+n))
	return [][]byte{b, f.Payload, tail}
}
