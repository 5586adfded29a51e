package flv

import (
	"encoding/binary"
	"time"

	"livego/internal/media"
)

// maxBodyHeader is the longest header of a frame's body: enhanced, with FourCC and composition time.
const maxBodyHeader = 8

// form is how frames of a codec leave. The encoder's own form does not matter: legacy ids are understood by everybody, and the
// FourCC form is the only one that has a name for the rest.
type form uint8

const (
	legacy form = iota
	enhanced
	verbatim // the body is the payload
)

func formOf(t *media.Track) form {
	switch t.Codec {
	case media.H264, media.AAC, media.MP3:
		return legacy
	case media.Opaque, media.Script:
		return verbatim
	}
	return enhanced
}

// TagBody returns the body of the message that carries f, in two parts: a header of 0 to 8 bytes, which is the caller's, and
// the payload, which is f's.
func TagBody(f *media.Frame) (header, payload []byte) {
	return appendBodyHeader(make([]byte, 0, maxBodyHeader), f), f.Payload
}

func appendBodyHeader(dst []byte, f *media.Frame) []byte {
	t := f.Track
	switch {
	case formOf(t) == verbatim:
		return dst
	case t.Codec == media.AAC:
		return append(dst, aacFlags, legacyFrame)
	case t.Codec == media.MP3:
		return append(dst, mp3Flags(t))
	case t.Codec == media.H264:
		return appendCTS(append(dst, frameType(f)<<4|videoH264, legacyFrame), f)
	case t.Kind == media.Audio:
		return appendFourCC(dst, soundEnhanced<<4|packetCodedFrames, t.Codec)
	case t.Codec == media.HEVC && f.PTS != f.DTS:
		return appendCTS(appendFourCC(dst, isEnhancedVideo|frameType(f)<<4|packetCodedFrames, t.Codec), f)
	case t.Codec == media.HEVC:
		return appendFourCC(dst, isEnhancedVideo|frameType(f)<<4|packetCodedFramesX, t.Codec)
	}
	return appendFourCC(dst, isEnhancedVideo|frameType(f)<<4|packetCodedFrames, t.Codec)
}

// SequenceHeader returns the body of the message that must precede the frames of t, nil for a track that needs none. Enhanced RTMP
// has none for AC-3 and E-AC-3, whose configuration is for files.
func SequenceHeader(t *media.Track) []byte {
	if len(t.Config) == 0 || t.Codec == media.AC3 || t.Codec == media.EAC3 {
		return nil
	}
	dst := make([]byte, 0, maxBodyHeader+len(t.Config))
	switch {
	case formOf(t) == verbatim:
	case t.Codec == media.H264:
		dst = append(dst, frameKey<<4|videoH264, legacyHeader, 0, 0, 0)
	case t.Codec == media.AAC:
		dst = append(dst, aacFlags, legacyHeader)
	case t.Kind == media.Audio:
		dst = appendFourCC(dst, soundEnhanced<<4|packetSequenceStart, t.Codec)
	default:
		dst = appendFourCC(dst, isEnhancedVideo|frameKey<<4|packetSequenceStart, t.Codec)
	}
	return append(dst, t.Config...)
}

// aacFlags says 44.1 kHz, 16 bits, stereo, whatever the sound: the AudioSpecificConfig counts (FLV clause E.4.2.1).
const aacFlags = soundAAC<<4 | 0xF

// mp3Flags returns the sound byte of MP3. Rates it has no word for take the nearest: decoders go by the frame headers.
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

// frameType returns what the parser says of H.264 and HEVC, and what the encoder said of other codecs.
func frameType(f *media.Frame) byte {
	if f.RAP != media.NoAccess {
		return frameKey
	}
	parsed := f.Track.Codec == media.H264 || f.Track.Codec == media.HEVC
	if f.KeyFlag && !parsed {
		return frameKey
	}
	return frameInter
}

func appendFourCC(dst []byte, first byte, c media.Codec) []byte {
	cc := fourCCs[c]
	return append(append(dst, first), cc[:]...)
}

func appendCTS(dst []byte, f *media.Frame) []byte {
	return appendUint24(dst, uint32((f.PTS-f.DTS)/time.Millisecond))
}

// codecID returns the id that onMetaData names t's coding by: of the legacy form, else the FourCC as a number; 0 if unknown.
func codecID(t *media.Track) float64 {
	if t == nil {
		return 0
	}
	switch t.Codec {
	case media.H264:
		return videoH264
	case media.AAC:
		return soundAAC
	case media.MP3:
		return soundMP3
	}
	return fourCCs[t.Codec].number()
}

// Timestamp returns the 32 bits that stand for f's DTS, in milliseconds.
func Timestamp(f *media.Frame) uint32 { return uint32(f.DTS / time.Millisecond) }

func appendUint24(dst []byte, v uint32) []byte {
	return append(dst, byte(v>>16), byte(v>>8), byte(v))
}

// FileHeader returns what an FLV file or stream begins with: the header and the first PreviousTagSize (FLV clauses E.2, E.3).
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

// appendTagHeader appends what precedes a tag's body of n bytes (FLV clause E.4.1).
func appendTagHeader(dst []byte, typ uint8, timestamp uint32, n int) []byte {
	dst = appendUint24(append(dst, typ), uint32(n))
	dst = append(appendUint24(dst, timestamp), byte(timestamp>>24))
	return append(dst, 0, 0, 0) // StreamID
}

// AppendTag appends a tag with its PreviousTagSize to dst. timestamp is in milliseconds.
func AppendTag(dst []byte, typ uint8, timestamp uint32, body []byte) []byte {
	dst = appendTagHeader(dst, typ, timestamp, len(body))
	dst = append(dst, body...)
	return binary.BigEndian.AppendUint32(dst, uint32(tagHeaderSize+len(body)))
}

// EncodeTag lays f out as an FLV tag with its PreviousTagSize, for Frame.Wire. The payload is f's, not copied.
func EncodeTag(f *media.Frame) [][]byte {
	b := make([]byte, tagHeaderSize, tagHeaderSize+maxBodyHeader+4)
	b = appendBodyHeader(b, f)
	n := len(b) - tagHeaderSize + len(f.Payload)
	appendTagHeader(b[:0], MessageType(f.Track.Kind), Timestamp(f), n)
	tail := binary.BigEndian.AppendUint32(b[len(b):], uint32(tagHeaderSize+n))
	return [][]byte{b, f.Payload, tail}
}
