package flv

import (
	"fmt"
	"time"

	"livego/internal/media"
)

// A packet is the body of one video or audio message, taken apart.
type packet struct {
	what     what
	codec    media.Codec
	label    string // of an Opaque codec
	enhanced bool
	keyFlag  bool
	cts      time.Duration
	data     []byte // configuration or access unit; the whole body of an Opaque codec
}

// what a packet is for.
type what uint8

const (
	nothing what = iota // legal, and of no use to us
	header
	frame
	end // of the sequence
)

var errShort = skip("body is too short")

// parseVideo takes a video body apart. The result points into it.
func parseVideo(body []byte) (packet, error) {
	if len(body) == 0 {
		return packet{}, errShort
	}
	if body[0]&isEnhancedVideo != 0 {
		return parseEnhancedVideo(body)
	}
	p := packet{keyFlag: isKey(body[0] >> 4)}
	if !isFrame(body[0] >> 4) {
		return p, skip("video frame type %d carries no picture", body[0]>>4)
	}
	switch id := body[0] & 0xF; id {
	case videoH264:
		p.codec = media.H264
	case videoHEVC:
		p.codec = media.HEVC
	default:
		p.what, p.label, p.data = frame, videoLabel(id), body
		return p, nil
	}
	if len(body) < 5 {
		return p, errShort
	}
	p.cts, p.data = compositionTime(body[2:]), body[5:]
	switch body[1] {
	case legacyHeader:
		p.what = header
	case legacyFrame:
		p.what = frame
	case legacyEnd:
		p.what = end
	default:
		return p, skip("video packet type %d", body[1])
	}
	return p, nil
}

func parseEnhancedVideo(body []byte) (packet, error) {
	frameType, kind := body[0]>>4&7, body[0]&0xF
	p, err := parseFourCC(media.Video, kind, body)
	if err != nil || kind == packetMetadata {
		return p, err
	}
	p.keyFlag = isKey(frameType)
	if !isFrame(frameType) {
		return p, skip("video frame type %d carries no picture", frameType)
	}
	switch {
	case kind == packetCodedFramesX:
		p.what = frame
	case p.what == nothing:
		return p, skip("video packet type %d is not supported", kind)
	case p.what == frame && (p.codec == media.H264 || p.codec == media.HEVC):
		if len(p.data) < 3 {
			return p, errShort
		}
		p.cts, p.data = compositionTime(p.data), p.data[3:]
	}
	return p, nil
}

// parseFourCC takes apart what the FourCC forms of video and audio have in common.
func parseFourCC(k media.Kind, kind byte, body []byte) (packet, error) {
	if len(body) < 5 {
		return packet{}, errShort
	}
	cc := fourCC(body[1:5])
	if !cc.printable() {
		return packet{}, skip("FourCC %x", cc[:])
	}
	p := packet{enhanced: true, codec: cc.codec(k), data: body[5:]}
	if p.codec == media.Opaque {
		p.label, p.data = "fourcc "+string(cc[:]), body
	}
	switch kind {
	case packetSequenceStart:
		p.what = header
	case packetCodedFrames:
		p.what = frame
	case packetSequenceEnd:
		p.what = end
	}
	return p, nil
}

// parseAudio takes an audio body apart. The result points into it. An empty one is silence by Enhanced RTMP.
func parseAudio(body []byte) (packet, error) {
	if len(body) == 0 {
		return packet{}, nil
	}
	p := packet{what: frame, data: body[1:]}
	switch format := body[0] >> 4; format {
	case soundEnhanced:
		return parseEnhancedAudio(body)
	case soundMP3, soundMP3At8k:
		p.codec = media.MP3
	case soundAAC:
		p.codec = media.AAC
		if len(body) < 3 {
			return p, errShort
		}
		p.data = body[2:]
		switch body[1] {
		case legacyHeader:
			p.what = header
		case legacyFrame:
		default:
			return p, skip("AAC packet type %d", body[1])
		}
	default:
		p.label, p.data = soundLabel(format), body
	}
	return p, nil
}

func parseEnhancedAudio(body []byte) (packet, error) {
	kind := body[0] & 0xF
	p, err := parseFourCC(media.Audio, kind, body)
	if err != nil || kind == packetMetadata {
		return p, err
	}
	if p.what == nothing {
		return p, skip("audio packet type %d is not supported", kind)
	}
	if p.what == frame && len(p.data) == 0 {
		p.what = nothing // silence
	}
	return p, nil
}

func isKey(frameType byte) bool { return frameType == frameKey || frameType == frameGenerated }

// isFrame reports whether a frame type is a picture: 0, 6 and 7 are reserved, 5 is a command to a player.
func isFrame(frameType byte) bool { return frameKey <= frameType && frameType <= frameGenerated }

// compositionTime reads a signed number of milliseconds, SI24.
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
