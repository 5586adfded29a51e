package fmp4

import (
	"encoding/binary"

	"livego/internal/media"
)

// streamInfo is the length of FLAC's STREAMINFO block without its header (RFC 9639 section 8.2).
const streamInfo = 34

// sampleEntry returns the stsd entry of t, which check has accepted.
func sampleEntry(t *media.Track) []byte {
	switch t.Codec {
	case media.H264:
		return visual("avc1", t, box("avcC", t.Config))
	case media.HEVC:
		return visual("hvc1", t, box("hvcC", t.Config))
	case media.AV1:
		return visual("av01", t, box("av1C", t.Config))
	case media.VP9:
		return visual("vp09", t, full("vpcC", 1, 0, vpcRecord(t.Config)))
	case media.AAC:
		return audio("mp4a", t, esds(objectAAC, t.Config))
	case media.MP3:
		return audio("mp4a", t, esds(objectMP3(t.SampleRate), nil))
	case media.Opus:
		return audio("Opus", t, box("dOps", dOps(t.Config)))
	case media.FLAC:
		return audio("fLaC", t, full("dfLa", 0, 0, dfLa(t.Config)))
	case media.AC3:
		return audio("ac-3", t, box("dac3", t.Config))
	case media.EAC3:
		return audio("ec-3", t, box("dec3", t.Config))
	}
	return nil
}

// visual returns a VisualSampleEntry (ISO/IEC 14496-12 clause 12.1.3).
func visual(name string, t *media.Track, config []byte) []byte {
	const (
		dpi72   = 0x00480000
		depth24 = 0x0018
	)
	w, h := size(t)
	return box(name,
		u16(0, 0, 0, 1), // data reference 1
		u32(0, 0, 0, 0), u16(w, h), u32(dpi72, dpi72, 0),
		u16(1),           // frame_count
		make([]byte, 32), // compressorname
		u16(depth24, 0xFFFF),
		config)
}

// audio returns an AudioSampleEntry (ISO/IEC 14496-12 clause 12.2.3).
func audio(name string, t *media.Track, config []byte) []byte {
	return box(name,
		u16(0, 0, 0, 1), // data reference 1
		u32(0, 0), u16(uint16(min(t.Channels, 0xFFFF)), sampleBits(t), 0, 0), u32(entryRate(t.SampleRate)<<16),
		config)
}

// sampleBits returns the size of a decoded sample in bits: 16 if the codec has none of its own.
func sampleBits(t *media.Track) uint16 {
	if t.Codec != media.FLAC {
		return 16
	}
	b := t.Config[8:]
	return uint16(b[12]&1)<<4 | uint16(b[13]>>4) + 1
}

// entryRate returns the sample rate for an AudioSampleEntry, whose 16 bits cannot hold 96 kHz: in
// that case the largest fraction by a power of two that fits (FLAC in ISOBMFF, section 3.3.1). The
// codec's own box has the true rate.
func entryRate(hz int) uint32 {
	for hz > 0xFFFF {
		hz /= 2
	}
	return uint32(hz)
}

// vpcRecord returns a VPCodecConfigurationRecord without the version and flags of its box, which
// some encoders include. A record that started with the same bytes would have 0 bits per sample.
func vpcRecord(b []byte) []byte {
	if len(b) >= 12 && string(b[:4]) == "\x01\x00\x00\x00" {
		return b[4:]
	}
	return b
}

// Values of objectTypeIndication (ISO/IEC 14496-1 table 5).
const (
	objectAAC   = 0x40
	objectMPEG2 = 0x69 // ISO/IEC 13818-3: MP3 at half the rates, and by convention at a quarter
	objectMPEG1 = 0x6B // ISO/IEC 11172-3
)

func objectMP3(rate int) byte {
	if rate < 32000 {
		return objectMPEG2
	}
	return objectMPEG1
}

// esds returns an ESDBox (ISO/IEC 14496-14 clause 5.6.1) with the object type, and config if the
// decoder needs one. Rates and buffer sizes are 0, unknown.
func esds(object byte, config []byte) []byte {
	const (
		tagES, tagDecoder, tagSpecific, tagSL = 3, 4, 5, 6

		audioStream = 5<<2 | 1 // streamType 5, upStream 0, reserved 1
		inMP4       = 2        // the predefined SLConfigDescriptor
	)
	decoder := append([]byte{object, audioStream, 0, 0, 0}, u32(0, 0)...)
	if config != nil {
		decoder = append(decoder, descriptor(tagSpecific, config)...)
	}
	es := append(make([]byte, 3), descriptor(tagDecoder, decoder)...) // ES_ID 0, no flags
	es = append(es, descriptor(tagSL, []byte{inMP4})...)
	return full("esds", 0, 0, descriptor(tagES, es))
}

// descriptor returns a descriptor around content (ISO/IEC 14496-1 clause 8.3.3): its length is in
// groups of seven bits.
func descriptor(tag byte, content []byte) []byte {
	n := len(content)
	length := []byte{byte(n & 0x7F)}
	for n >>= 7; n > 0; n >>= 7 {
		length = append([]byte{byte(n) | 0x80}, length...)
	}
	return append(append([]byte{tag}, length...), content...)
}

// checkOpusHead reports whether b is an identification header (RFC 7845 section 5.1) of version 0
// or 1 with its channel mapping.
func checkOpusHead(b []byte) bool {
	if len(b) < 19 || string(b[:8]) != "OpusHead" || b[8]>>4 != 0 || b[9] == 0 {
		return false
	}
	if family := b[18]; family == 0 {
		return b[9] <= 2
	}
	return len(b) >= 21+int(b[9])
}

// dOps returns the content of an OpusSpecificBox (Opus in ISOBMFF section 4.3.2) for an
// identification header: the same fields, but version 0 and big-endian.
func dOps(head []byte) []byte {
	channels, family := head[9], head[18]
	b := []byte{0, channels}
	b = binary.BigEndian.AppendUint16(b, binary.LittleEndian.Uint16(head[10:])) // pre-skip
	b = binary.BigEndian.AppendUint32(b, binary.LittleEndian.Uint32(head[12:])) // sample rate of the original
	b = binary.BigEndian.AppendUint16(b, binary.LittleEndian.Uint16(head[16:])) // gain
	b = append(b, family)
	if family != 0 {
		b = append(b, head[19:21+int(channels)]...)
	}
	return b
}

// dfLa returns the STREAMINFO block of a FLAC header (FLAC in ISOBMFF section 3.3.2), marked as the
// last block: decoders do not need tags and pictures.
func dfLa(header []byte) []byte {
	const last = 0x80
	return append([]byte{last, 0, 0, streamInfo}, header[8:8+streamInfo]...)
}
