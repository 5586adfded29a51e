package mp4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"livego/internal/codec"
	"livego/internal/media"
)

// A sampleDescription is one entry of stsd.
type sampleDescription struct {
	track      *media.Track // of the last frame
	lengthSize int          // of NAL unit length fields, for H.264 and HEVC

	// For codecs whose frames describe the track: what the file says, and the track of the last
	// frame, nil before the first.
	fileTrack  media.Track
	frameTrack *media.Track
}

// videoCodecs maps sample entry types to video codecs, with the box that holds the configuration.
var videoCodecs = map[string]struct {
	codec  media.Codec
	config string
}{
	"avc1": {media.H264, "avcC"}, "avc2": {media.H264, "avcC"}, "avc3": {media.H264, "avcC"}, "avc4": {media.H264, "avcC"},
	"hvc1": {media.HEVC, "hvcC"}, "hev1": {media.HEVC, "hvcC"}, "dvh1": {media.HEVC, "hvcC"}, "dvhe": {media.HEVC, "hvcC"},
	"av01": {media.AV1, "av1C"}, "vp08": {media.VP8, "vpcC"}, "vp09": {media.VP9, "vpcC"},
}

// unsupportedNames are names for people of unsupported codecs, by sample entry type.
var unsupportedNames = map[string]string{
	"mp4v": "mpeg4", "s263": "h263", "h263": "h263", "SVQ1": "sorenson 1", "SVQ3": "sorenson 3", "VP6F": "vp6",
	"FLV1": "sorenson",
	"jpeg": "jpeg", "mjpa": "mjpeg", "mjpb": "mjpeg", "png ": "png", "raw ": "raw", "rle ": "animation", "cvid": "cinepak",
	"apcn": "prores", "apch": "prores", "apcs": "prores", "apco": "prores", "ap4h": "prores", "ap4x": "prores",
	"AVdn": "dnxhd", "AVdh": "dnxhr", "mx5p": "mpeg2", "xdvb": "mpeg2", "hdv2": "mpeg2", "vvc1": "vvc", "vvi1": "vvc",
	"sowt": "pcm", "twos": "pcm", "lpcm": "pcm", "in24": "pcm", "in32": "pcm", "fl32": "pcm", "fl64": "pcm", "ipcm": "pcm",
	"fpcm": "pcm",
	"ulaw": "g711 mu-law", "alaw": "g711 a-law", "ima4": "adpcm", "ms\x00\x02": "adpcm", "alac": "alac", "samr": "amr",
	"sawb": "amr-wb",
	"QDM2": "qdesign 2", "agsm": "gsm", "dtsc": "dts", "dtsh": "dts", "dtsl": "dts", "dtse": "dts", "mlpa": "truehd",
	"ac-4": "ac4",
	"encv": "encrypted video", "enca": "encrypted audio", "drms": "encrypted audio",
}

// label returns the name for people of an unsupported codec.
func label(typ fourCC) string {
	if n, ok := unsupportedNames[string(typ[:])]; ok {
		return n
	}
	printable := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, string(typ[:]))
	return "fourcc " + printable
}

// readSampleDescriptions reads the sample descriptions of a track of kind k (ISO/IEC 14496-12
// clause 8.5.2).
func readSampleDescriptions(f file, stsd box, k media.Kind) ([]sampleDescription, error) {
	b, err := f.content(stsd, maxEntry)
	if err != nil {
		return nil, err
	}
	if len(b) < 8 {
		return nil, errBoxTruncated
	}
	mem := file{bytes.NewReader(b), int64(len(b))}
	var entries []sampleDescription
	err = mem.walk(8, mem.size, func(e box) error {
		if len(entries) == maxTracks {
			return errors.New("mp4: too many sample descriptions in a track")
		}
		t := &media.Track{Kind: k, Timescale: 90000}
		size := 0
		var err error
		if k == media.Video {
			size, err = readVideo(mem, e, t)
		} else {
			err = readAudio(mem, e, t)
		}
		if err != nil {
			return fmt.Errorf("mp4: %v: %w", e.typ, err)
		}
		entries = append(entries, sampleDescription{track: t, lengthSize: size, fileTrack: *t})
		return nil
	})
	if err == nil && len(entries) == 0 {
		err = errors.New("mp4: track without sample description")
	}
	return entries, err
}

// readVideo reads a VisualSampleEntry (ISO/IEC 14496-12 clause 12.1.3) into t.
func readVideo(f file, e box, t *media.Track) (lengthSize int, err error) {
	const fixed = 78
	if e.size() < fixed {
		return 0, errBoxTruncated
	}
	var size [4]byte
	if err := f.read(size[:], e.off+24); err != nil {
		return 0, err
	}
	t.Width, t.Height = int(binary.BigEndian.Uint16(size[:])), int(binary.BigEndian.Uint16(size[2:]))
	known, ok := videoCodecs[string(e.typ[:])]
	if !ok {
		t.Label = label(e.typ)
		return 0, nil
	}
	c, ok := f.find(known.config, e.off+fixed, e.end)
	if !ok {
		return 0, fmt.Errorf("no %s", known.config)
	}
	t.Codec = known.codec
	if t.Config, err = f.content(c, maxEntry); err != nil {
		return 0, err
	}
	return codec.Describe(t)
}

// readAudio reads an AudioSampleEntry (clause 12.2.3), or QuickTime's longer versions of it, into
// t.
func readAudio(f file, e box, t *media.Track) error {
	const fixed = 28
	if e.size() < fixed {
		return errBoxTruncated
	}
	var h [fixed]byte
	if err := f.read(h[:], e.off); err != nil {
		return err
	}
	children := e.off + fixed
	switch version := binary.BigEndian.Uint16(h[8:]); version {
	case 1:
		children += 16
	case 2:
		children += 36
	}
	children = min(children, e.end)
	t.Channels = int(binary.BigEndian.Uint16(h[16:]))
	// 16.16; high rates are 0 or wrong here, and right in the configuration
	t.SampleRate = int(binary.BigEndian.Uint16(h[24:]))
	if wave, ok := f.find("wave", children, e.end); ok { // QuickTime nests the configuration one level deeper
		return readSound(f, e.typ, wave.off, wave.end, t)
	}
	return readSound(f, e.typ, children, e.end, t)
}

// readSound reads the boxes that configure an audio codec.
func readSound(f file, typ fourCC, off, end int64, t *media.Track) error {
	config := func(name string, least int) ([]byte, error) {
		b, ok := f.find(name, off, end)
		if !ok {
			return nil, fmt.Errorf("no %s", name)
		}
		c, err := f.content(b, maxEntry)
		if err == nil && len(c) < least {
			err = fmt.Errorf("%s of %d bytes is too short", name, len(c))
		}
		return c, err
	}
	var err error
	switch string(typ[:]) {
	case "mp4a":
		var b []byte
		if b, err = config("esds", 4); err != nil {
			return err
		}
		err = readESDS(b[4:], t)
	case ".mp3", "ms\x00U":
		t.Codec = media.MP3
	case "ac-3":
		t.Codec = media.AC3
	case "ec-3":
		t.Codec = media.EAC3
	case "Opus":
		t.Codec = media.Opus
		var b []byte
		if b, err = config("dOps", 11); err == nil {
			t.Config, err = opusHead(b)
		}
	case "fLaC":
		t.Codec = media.FLAC
		if t.Config, err = config("dfLa", 4+38); err == nil {
			t.Config = append([]byte("fLaC"), t.Config[4:42]...)
			t.Config[4] |= 0x80 // mark STREAMINFO as the last metadata block
		}
	default:
		t.Label = label(typ)
	}
	if err != nil || t.Codec == media.Passthrough || codec.SelfDescribing(t.Codec) {
		return err
	}
	_, err = codec.Describe(t)
	return err
}

// opusHead returns the identification header (RFC 7845 section 5.1) for the content of a dOps box,
// whose fields are big-endian.
func opusHead(b []byte) ([]byte, error) {
	if b[0] != 0 {
		return nil, fmt.Errorf("dOps version %d", b[0])
	}
	h := append([]byte("OpusHead"), 1, b[1])
	h = binary.LittleEndian.AppendUint16(h, binary.BigEndian.Uint16(b[2:]))
	h = binary.LittleEndian.AppendUint32(h, binary.BigEndian.Uint32(b[4:]))
	h = binary.LittleEndian.AppendUint16(h, binary.BigEndian.Uint16(b[8:]))
	return append(h, b[10:]...), nil
}

// Tags of MPEG-4 descriptors (ISO/IEC 14496-1 table 1).
const (
	tagES            = 3
	tagDecoderConfig = 4
	tagSpecificInfo  = 5
)

// readESDS reads an ES_Descriptor: the codec, and the configuration of AAC (ISO/IEC 14496-1 clause
// 7.2.6.5).
func readESDS(b []byte, t *media.Track) error {
	es, ok := descriptor(b, tagES)
	if !ok || len(es) < 3 {
		return errors.New("malformed esds")
	}
	flags := es[2]
	es = es[3:]
	skip := 0
	if flags&0x80 != 0 { // streamDependenceFlag
		skip += 2
	}
	if flags&0x40 != 0 && len(es) > skip { // URL_Flag
		skip += 1 + int(es[skip])
	}
	if flags&0x20 != 0 { // OCRstreamFlag
		skip += 2
	}
	d, ok := descriptor(es[min(skip, len(es)):], tagDecoderConfig)
	if !ok || len(d) < 13 {
		return errors.New("malformed esds")
	}
	switch object := d[0]; object {
	case 0x40, 0x66, 0x67, 0x68:
		t.Codec = media.AAC
		if t.Config, ok = descriptor(d[13:], tagSpecificInfo); !ok {
			return errors.New("AAC without AudioSpecificConfig")
		}
		return refineObjectType(t)
	case 0x69, 0x6B:
		t.Codec = media.MP3
	case 0xA5:
		t.Codec = media.AC3
	case 0xA6:
		t.Codec = media.EAC3
	case 0xA9, 0xAA, 0xAB, 0xAC:
		t.Label = "dts"
	case 0xDD:
		t.Label = "vorbis"
	case 0xE1:
		t.Label = "qcelp"
	default:
		t.Label = fmt.Sprintf("object type %#x", object)
	}
	return nil
}

// refineObjectType finds other codecs under AAC's object type: MPEG audio layers I to III, ALS,
// USAC and others (ISO/IEC 14496-3 table 1.17).
func refineObjectType(t *media.Track) error {
	if len(t.Config) < 2 {
		return errors.New("AudioSpecificConfig of one byte")
	}
	object := int(t.Config[0] >> 3)
	if object == 31 {
		object = 32 + int(t.Config[0]&7)<<3 + int(t.Config[1]>>5)
	}
	switch object {
	case 32, 33, 34:
		t.Codec, t.Config = media.MP3, nil
	case 36:
		t.Codec, t.Config, t.Label = media.Passthrough, nil, "mp4als"
	case 42:
		t.Codec, t.Config, t.Label = media.Passthrough, nil, "usac"
	}
	return nil
}

// descriptor returns the content of the first descriptor in b with that tag. Lengths have one to
// four bytes.
func descriptor(b []byte, tag byte) ([]byte, bool) {
	for len(b) >= 2 {
		got, size := b[0], 0
		b = b[1:]
		for n := 0; n < 4 && len(b) > 0; n++ {
			c := b[0]
			b = b[1:]
			size = size<<7 | int(c&0x7F)
			if c&0x80 == 0 {
				break
			}
		}
		size = min(size, len(b)) // some writers include the header in the size
		if got == tag {
			return b[:size], true
		}
		b = b[size:]
	}
	return nil, false
}
