package flv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"livego/internal/media"
)

// A packet is what one video or audio message says about one track.
type packet struct {
	kind    packetKind
	id      uint8 // of the track
	codec   media.Codec
	label   string // of a Passthrough codec
	keyFlag bool
	cts     time.Duration
	offset  time.Duration // added to the timestamp of the message
	data    []byte        // configuration, access unit or color information; the whole body of a Passthrough codec

	frameType byte // of video in FourCC form
}

// A packetKind is the purpose of a packet.
type packetKind uint8

const (
	kindIgnored packetKind = iota // valid but not used
	kindHeader
	kindFrame
	kindColorInfo // color information
	kindEnd       // end of the sequence
)

const (
	maxTracks = 32 // of a publisher, and in one message
	maxModEx  = 16 // modifiers in one message
)

var errShort = skip("message body is too short")

// parseVideo appends the packets of a video body to dst; their data are slices of body. With an
// error, the packets of the valid tracks are returned too.
func parseVideo(dst []packet, body []byte) ([]packet, error) {
	if len(body) == 0 {
		return dst, errShort
	}
	if body[0]&isEnhancedVideo != 0 {
		return parseEnhanced(dst, media.Video, body)
	}
	p, err := parseLegacyVideo(body)
	if err != nil {
		return dst, err
	}
	return append(dst, p), nil
}

func parseLegacyVideo(body []byte) (packet, error) {
	p := packet{keyFlag: isKeyframe(body[0] >> 4)}
	if !isFrame(body[0] >> 4) {
		return p, skip("video frame type %d carries no picture", body[0]>>4)
	}
	switch id := body[0] & 0xF; id {
	case videoH264:
		p.codec = media.H264
	case videoHEVC:
		p.codec = media.HEVC
	default:
		p.kind, p.label, p.data = kindFrame, videoLabel(id), body
		return p, nil
	}
	if len(body) < 5 {
		return p, errShort
	}
	p.cts, p.data = compositionTime(body[2:]), body[5:]
	switch body[1] {
	case legacyHeader:
		p.kind = kindHeader
	case legacyFrame:
		p.kind = kindFrame
	case legacyEnd:
		p.kind = kindEnd
	default:
		return p, skip("video packet type %d", body[1])
	}
	return p, nil
}

// parseAudio is parseVideo for an audio body. An empty one means silence in Enhanced RTMP.
func parseAudio(dst []packet, body []byte) ([]packet, error) {
	if len(body) == 0 {
		return dst, nil
	}
	if body[0]>>4 == soundEnhanced {
		return parseEnhanced(dst, media.Audio, body)
	}
	p, err := parseLegacyAudio(body)
	if err != nil {
		return dst, err
	}
	return append(dst, p), nil
}

func parseLegacyAudio(body []byte) (packet, error) {
	p := packet{kind: kindFrame, data: body[1:]}
	switch format := body[0] >> 4; format {
	case soundMP3, soundMP3At8k:
		p.codec = media.MP3
	case soundAAC:
		p.codec = media.AAC
		if len(body) < 2 {
			return p, errShort
		}
		p.data = body[2:] // empty means silence
		switch body[1] {
		case legacyHeader:
			p.kind = kindHeader
		case legacyFrame:
		default:
			return p, skip("AAC packet type %d", body[1])
		}
	default:
		p.label, p.data = soundLabel(format), body
	}
	return p, nil
}

// parseEnhanced parses a body of kind k in the FourCC form (Enhanced RTMP v2, ExVideoTagHeader and
// ExAudioTagHeader): a packet type, which modifiers may precede, then one track or several.
func parseEnhanced(dst []packet, k media.Kind, body []byte) ([]packet, error) {
	p, kind, b := packet{}, body[0]&0xF, body[1:]
	for n := 0; kind == packetModEx; n++ {
		if n == maxModEx {
			return dst, skipFor(media.SkipLimit, "more than %d modifiers", maxModEx)
		}
		var err error
		if kind, b, err = p.readModEx(b); err != nil {
			return dst, err
		}
	}
	if k == media.Video {
		p.frameType = body[0] >> 4 & 7
	}
	if kind == multitrack(k) {
		return parseMultitrack(dst, k, p, b)
	}
	cc, b, err := cutFourCC(b)
	if err == nil {
		err = p.parseTrack(k, kind, cc, b)
	}
	if err != nil {
		return dst, err
	}
	return append(dst, p), nil
}

// readModEx reads one modifier from b. It returns the packet type that follows it, which may be
// another modifier.
func (p *packet) readModEx(b []byte) (kind byte, rest []byte, err error) {
	if len(b) < 1 {
		return 0, nil, errShort
	}
	size := int(b[0]) + 1
	b = b[1:]
	if size == 256 { // an extended size follows
		if len(b) < 2 {
			return 0, nil, errShort
		}
		size = int(binary.BigEndian.Uint16(b)) + 1
		b = b[2:]
	}
	if len(b) < size+1 {
		return 0, nil, errShort
	}
	value, next := b[:size], b[size]
	if next>>4 == timestampOffsetNano {
		if len(value) < 3 || uint24(value) >= uint32(time.Millisecond) {
			return 0, nil, skip("timestamp offset %x is not below a millisecond", value[:min(len(value), 3)])
		}
		p.offset = time.Duration(uint24(value))
	}
	return next & 0xF, b[size+1:], nil
}

// parseMultitrack parses what follows the packet type Multitrack; p holds what all tracks have in
// common. An invalid track does not affect the others.
func parseMultitrack(dst []packet, k media.Kind, p packet, b []byte) ([]packet, error) {
	if len(b) < 1 {
		return dst, errShort
	}
	layout, kind := b[0]>>4, b[0]&0xF
	b = b[1:]
	switch {
	case kind == multitrack(k) || kind == packetModEx:
		return dst, skip("%v packet type %d in a multitrack message", k, kind)
	case layout > manyTracksManyCodecs:
		return dst, unsupported("multitrack type %d", layout)
	}
	var (
		cc  fourCC
		err error
		bad error
	)
	if layout != manyTracksManyCodecs {
		if cc, b, err = cutFourCC(b); err != nil {
			return dst, err
		}
	}
	for n := 0; n == 0 || len(b) > 0; n++ {
		if n == maxTracks {
			return dst, skipFor(media.SkipLimit, "more than %d tracks in a message", maxTracks)
		}
		if layout == manyTracksManyCodecs {
			if cc, b, err = cutFourCC(b); err != nil {
				return dst, err
			}
		}
		if len(b) < 1 {
			return dst, errShort
		}
		p.id, b = b[0], b[1:]
		size := len(b)
		if layout != oneTrack {
			if len(b) < 3 || uint64(uint24(b)) > uint64(len(b)-3) {
				return dst, errShort
			}
			size, b = int(uint24(b)), b[3:]
		}
		one := p
		if err := one.parseTrack(k, kind, cc, b[:size]); err != nil {
			bad = err
		} else {
			dst = append(dst, one)
		}
		b = b[size:]
	}
	return dst, bad
}

// cutFourCC reads a FourCC from b.
func cutFourCC(b []byte) (cc fourCC, rest []byte, err error) {
	if len(b) < 4 {
		return cc, nil, errShort
	}
	cc = fourCC(b[:4])
	if !cc.printable() {
		err = skip("invalid FourCC %x", cc[:])
	}
	return cc, b[4:], err
}

// parseTrack parses the body of one track.
func (p *packet) parseTrack(k media.Kind, kind byte, cc fourCC, body []byte) error {
	p.codec, p.data = cc.codec(k), body
	switch {
	case p.codec == media.Passthrough:
		return &skipError{media.SkipUnsupported, fmt.Sprintf("%v FourCC %s", k, cc[:]), string(cc[:])}
	case k == media.Video && kind != packetExtra: // metadata, whose frame type has no meaning
		if !isFrame(p.frameType) {
			return skip("video frame type %d carries no picture", p.frameType)
		}
		p.keyFlag = isKeyframe(p.frameType)
	}
	switch {
	case kind == packetSequenceStart && p.codec == media.FLAC:
		p.kind, p.data = kindHeader, flacConfig(body)
	case kind == packetSequenceStart:
		p.kind = kindHeader
		// RFC 7845 section 5.2
		if !hasSequenceHeader(p.codec) || p.codec == media.Opus && bytes.HasPrefix(body, []byte("OpusTags")) {
			p.kind = kindIgnored
		}
	case kind == packetCodedFrames && (p.codec == media.H264 || p.codec == media.HEVC):
		if len(body) < 3 {
			return errShort
		}
		p.kind, p.cts, p.data = kindFrame, compositionTime(body), body[3:]
	case kind == packetCodedFrames:
		p.kind = kindFrame // an empty audio frame means silence
	case kind == packetCodedFramesX && k == media.Video:
		p.kind = kindFrame
	case kind == packetSequenceEnd:
		p.kind = kindEnd
	case kind == packetExtra && k == media.Video:
		p.kind = kindColorInfo
	case kind == packetExtra:
		return checkMultichannelConfig(body)
	default:
		return unsupported("%v packet type %d", k, kind)
	}
	return nil
}

// flacPrefix precedes the STREAMINFO block in Track.Config: "fLaC" and the header of a block of 34
// bytes (RFC 9639 sections 6 and 8.1).
const (
	flacPrefix = "fLaC\x80\x00\x00\x22"
	flacInfo   = 34
)

// flacConfig returns a FLAC configuration in the form of Track.Config. ffmpeg sends STREAMINFO
// only, other encoders send the start of a file.
func flacConfig(b []byte) []byte {
	if n := len(flacPrefix); len(b) >= n+flacInfo && string(b[:4]) == flacPrefix[:4] && b[4]&0x7F == 0 {
		b = b[n : n+flacInfo]
	}
	if len(b) != flacInfo {
		return b // newTrack reports the error
	}
	return append([]byte(flacPrefix), b...)
}

// hasSequenceHeader reports whether codec c has a sequence header.
func hasSequenceHeader(c media.Codec) bool {
	switch c {
	case media.MP3, media.AC3, media.EAC3:
		return false
	}
	return true
}

func isKeyframe(frameType byte) bool { return frameType == frameKey || frameType == frameGenerated }

// isFrame reports whether a frame type is a picture: 0, 6 and 7 are reserved, 5 is a command to the
// player.
func isFrame(frameType byte) bool { return frameKey <= frameType && frameType <= frameGenerated }

// compositionTime reads a signed 24-bit number of milliseconds (SI24).
func compositionTime(b []byte) time.Duration {
	ms := int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8
	return time.Duration(ms) * time.Millisecond
}

func videoLabel(id byte) string {
	names := [...]string{1: "jpeg", 2: "sorenson", 3: "screen", 4: "vp6", 5: "vp6 alpha", 6: "screen 2"}
	if int(id) < len(names) && names[id] != "" {
		return names[id]
	}
	return fmt.Sprintf("video codec %d", id)
}

func soundLabel(format byte) string {
	names := [...]string{
		0: "pcm", 1: "adpcm", 3: "pcm le", 4: "nellymoser 16k", 5: "nellymoser 8k", 6: "nellymoser",
		7: "g711 a-law", 8: "g711 mu-law", 11: "speex",
	}
	if int(format) < len(names) && names[format] != "" {
		return names[format]
	}
	return fmt.Sprintf("sound format %d", format)
}
