// Package flv decodes the bodies of RTMP and FLV messages into media.Frames and encodes them again,
// in the legacy form (Adobe Flash Video File Format Specification, version 10.1, annex E) and in
// the FourCC form of Enhanced RTMP (version 2). It also reads, writes and repairs FLV files. It
// knows no connections and no rooms.
package flv

import "livego/internal/media"

// Message types, the same in RTMP and in FLV tags.
const (
	TypeAudio      = 8
	TypeVideo      = 9
	TypeScriptData = 18
)

// MessageType returns the message type that carries tracks of kind k.
func MessageType(k media.Kind) uint8 {
	switch k {
	case media.Video:
		return TypeVideo
	case media.Audio:
		return TypeAudio
	}
	return TypeScriptData
}

// Video frame types, the high nibble of a body's first byte.
const (
	frameKey       = 1
	frameInter     = 2
	frameGenerated = 4 // a keyframe that a server generated; the highest type that is a picture
	frameCommand   = 5 // a command to the player
)

// Video codec IDs, the low nibble of a legacy body's first byte.
const (
	videoH264 = 7
	videoHEVC = 12 // unofficial, used for HEVC before Enhanced RTMP
)

// Sound formats, the high nibble of an audio body's first byte.
const (
	soundMP3      = 2
	soundEnhanced = 9
	soundAAC      = 10
	soundMP3At8k  = 14
)

// Packet types of legacy AVC, HEVC and AAC bodies, their second byte.
const (
	legacyHeader = 0
	legacyFrame  = 1
	legacyEnd    = 2
)

// isEnhancedVideo is the bit in the first byte of a video body that says that a FourCC follows.
const isEnhancedVideo = 0x80

// Packet types of the FourCC form, the low nibble of the first byte.
const (
	packetSequenceStart   = 0
	packetCodedFrames     = 1
	packetSequenceEnd     = 2
	packetCodedFramesX    = 3 // video: CodedFrames whose composition time is 0
	packetExtra           = 4 // video: Metadata (color information); audio: MultichannelConfig
	packetAudioMultitrack = 5
	packetVideoMultitrack = 6
	packetModEx           = 7
)

// multitrack returns the packet type of multitrack messages for tracks of kind k.
func multitrack(k media.Kind) byte {
	if k == media.Video {
		return packetVideoMultitrack
	}
	return packetAudioMultitrack
}

// Layouts of a Multitrack message (AvMultitrackType).
const (
	oneTrack             = 0
	manyTracks           = 1
	manyTracksManyCodecs = 2
)

// timestampOffsetNano is the only modifier type (ModEx) that is defined.
const timestampOffsetNano = 0

// A fourCC names a codec in the FourCC form.
type fourCC [4]byte

// fourCCs maps codecs to their FourCC. A codec that is missing has no FourCC form.
var fourCCs = map[media.Codec]fourCC{
	media.H264: {'a', 'v', 'c', '1'},
	media.HEVC: {'h', 'v', 'c', '1'},
	media.AV1:  {'a', 'v', '0', '1'},
	media.VP8:  {'v', 'p', '0', '8'},
	media.VP9:  {'v', 'p', '0', '9'},
	media.AAC:  {'m', 'p', '4', 'a'},
	media.MP3:  {'.', 'm', 'p', '3'},
	media.Opus: {'O', 'p', 'u', 's'},
	media.FLAC: {'f', 'L', 'a', 'C'},
	media.AC3:  {'a', 'c', '-', '3'},
	media.EAC3: {'e', 'c', '-', '3'},
}

// codec returns the codec of kind k that f names, Passthrough for an unknown one.
func (f fourCC) codec(k media.Kind) media.Codec {
	codecs := []media.Codec{media.H264, media.HEVC, media.AV1, media.VP8, media.VP9}
	if k == media.Audio {
		codecs = []media.Codec{media.AAC, media.MP3, media.Opus, media.FLAC, media.AC3, media.EAC3}
	}
	for _, c := range codecs {
		if fourCCs[c] == f {
			return c
		}
	}
	return media.Passthrough
}

// printable reports whether f consists of printable ASCII, as every FourCC does.
func (f fourCC) printable() bool {
	for _, c := range f {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// FourCC returns the FourCC of c in Enhanced RTMP, "" if there is none.
func FourCC(c media.Codec) string {
	if cc, ok := fourCCs[c]; ok {
		return string(cc[:])
	}
	return ""
}

// number returns f as the number that onMetaData carries.
func (f fourCC) number() float64 {
	return float64(uint32(f[0])<<24 | uint32(f[1])<<16 | uint32(f[2])<<8 | uint32(f[3]))
}
