package mkv

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"livego/internal/codec"
	"livego/internal/media"
)

// A track is a video or audio track of the file.
type track struct {
	number          uint64
	stream          media.Stream
	track           *media.Track // of the last frame
	lengthSize      int
	defaultDuration time.Duration // DefaultDuration, 0 if unknown
	delay           time.Duration // CodecDelay
	strippedHeader  []byte        // bytes that compression removed from the start of each frame
	dts             dtsGenerator  // of video

	// For codecs whose frames describe the track: what the file says, and the track of the last
	// frame, nil before the first.
	fileTrack  media.Track
	frameTrack *media.Track
}

const (
	maxTracks  = 16
	maxPrivate = 1 << 20
)

// codecs maps CodecIDs to codecs (the Matroska codec registry).
var codecs = map[string]media.Codec{
	"V_MPEG4/ISO/AVC": media.H264, "V_MPEGH/ISO/HEVC": media.HEVC, "V_AV1": media.AV1, "V_VP8": media.VP8,
	"V_VP9": media.VP9,
	"A_AAC": media.AAC, "A_MPEG/L3": media.MP3, "A_OPUS": media.Opus, "A_FLAC": media.FLAC, "A_AC3": media.AC3,
	"A_EAC3": media.EAC3,
}

// label returns a name for people of an unsupported codec.
func label(id string) string {
	for prefix, name := range map[string]string{
		"V_MPEG4/ISO/": "mpeg4", "V_MPEG4/MS/": "msmpeg4", "V_MPEG1": "mpeg1", "V_MPEG2": "mpeg2", "V_THEORA": "theora",
		"V_PRORES": "prores",
		"V_MJPEG":  "mjpeg", "V_UNCOMPRESSED": "raw", "A_VORBIS": "vorbis", "A_PCM/": "pcm", "A_DTS": "dts",
		"A_TRUEHD":  "truehd",
		"A_MPEG/L2": "mp2", "A_ALAC": "alac", "A_AAC/": "aac of an old kind",
	} {
		if strings.HasPrefix(id, prefix) {
			return name
		}
	}
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, id))
}

// A trackEntry holds the fields of a TrackEntry element.
type trackEntry struct {
	number, kind           uint64
	codec                  string
	private                []byte
	delay, defaultDuration uint64 // ns
	width, height          uint64
	rate                   float64
	channels               uint64
	roll                   float64
	strippedHeader         []byte
	unreadable             string // why frames cannot be read, "" if they can
}

// readTracks reads the Tracks element.
func (r *Reader) readTracks(tracks element) error {
	return r.walk(tracks.off, tracks.end, func(e element) error {
		if e.id != idTrackEntry {
			return nil
		}
		d := trackEntry{channels: 1}
		if err := r.readEntry(e, &d); err != nil {
			return err
		}
		if d.kind != 1 && d.kind != 2 {
			return nil
		}
		if len(r.tracks) == maxTracks {
			return fmt.Errorf("mkv: more than %d tracks", maxTracks)
		}
		t, err := newTrack(&d)
		if err != nil {
			return fmt.Errorf("mkv: %v: %w", codecs[d.codec], err)
		}
		for _, other := range r.tracks {
			if other.track.Kind == t.track.Kind {
				t.track.ID++
			}
		}
		t.fileTrack = *t.track
		r.tracks = append(r.tracks, t)
		return nil
	})
}

// readEntry reads a TrackEntry, or an element in it, into d.
func (r *Reader) readEntry(parent element, d *trackEntry) error {
	return r.walk(parent.off, parent.end, func(e element) error {
		var err error
		switch e.id {
		case idTrackNumber:
			d.number, err = r.number(e)
		case idTrackType:
			d.kind, err = r.number(e)
		case idCodecID:
			d.codec, err = r.text(e)
		case idCodecPrivate:
			d.private, err = r.content(e, maxPrivate)
		case idCodecDelay:
			d.delay, err = r.number(e)
		case idDefaultDuration:
			d.defaultDuration, err = r.number(e)
		case idWidth:
			d.width, err = r.number(e)
		case idHeight:
			d.height, err = r.number(e)
		case idSamplingFrequency:
			d.rate, err = r.float(e)
		case idChannels:
			d.channels, err = r.number(e)
		case idPoseRoll:
			d.roll, err = r.float(e)
		case idEncryption:
			d.unreadable = "encrypted"
		case idCompression:
			err = r.readCompression(e, d)
		case idVideo, idAudio, idProjection, idEncodings, idEncoding:
			if parent.id != e.id { // an element is not nested in itself
				err = r.readEntry(e, d)
			}
		}
		return err
	})
}

// readCompression reads how frames are compressed: stripped headers are restored, other algorithms
// are rejected.
func (r *Reader) readCompression(parent element, d *trackEntry) error {
	algorithm := uint64(0) // zlib
	err := r.walk(parent.off, parent.end, func(e element) error {
		var err error
		switch e.id {
		case idCompAlgo:
			algorithm, err = r.number(e)
		case idCompSettings:
			d.strippedHeader, err = r.content(e, 4096)
		}
		return err
	})
	if algorithm != 3 && d.unreadable == "" {
		d.unreadable = "compressed"
	}
	return err
}

func newTrack(d *trackEntry) (*track, error) {
	t := &track{number: d.number, strippedHeader: d.strippedHeader}
	const most = uint64(math.MaxInt64 / 4)
	t.delay, t.defaultDuration = time.Duration(min(d.delay, most)), time.Duration(min(d.defaultDuration, most))
	k := media.Video
	if d.kind == 2 {
		k = media.Audio
	}
	t.track = &media.Track{Kind: k, Codec: codecs[d.codec], Timescale: 90000}
	m := t.track
	if m.Codec == media.AAC && len(d.private) == 0 {
		m.Codec = media.Passthrough
	}
	if d.unreadable != "" {
		m.Codec, m.Label = media.Passthrough, d.unreadable+" "+label(d.codec)
	} else if m.Codec == media.Passthrough {
		m.Label = label(d.codec)
	}
	if k == media.Video {
		m.Width, m.Height = int(min(d.width, 1<<16)), int(min(d.height, 1<<16))
		if roll := int(d.roll); roll != 0 && roll%90 == 0 {
			t.stream.Rotation = ((-roll)%360 + 360) % 360 // Matroska counts counterclockwise
		}
	} else {
		if 1 <= d.rate && d.rate <= 1e6 {
			m.SampleRate, m.Timescale = int(d.rate), uint32(d.rate)
		}
		m.Channels = int(min(d.channels, 255))
	}
	t.stream.Track = m
	if m.Codec == media.Passthrough {
		return t, nil
	}
	return t, t.configure(d.private)
}

// configure applies the CodecPrivate, which is the same configuration record as in MP4.
func (t *track) configure(private []byte) (err error) {
	m := t.track
	switch m.Codec {
	case media.MP3, media.AC3, media.EAC3, media.VP8, media.VP9: // WebM's private data of VP9 has another format
		return nil
	case media.FLAC:
		if len(private) < 8+34 || string(private[:4]) != "fLaC" {
			return errors.New("invalid CodecPrivate")
		}
		private = append([]byte(nil), private[:8+34]...)
		private[4] |= 0x80 // mark STREAMINFO as the last metadata block
	}
	if m.Config = private; len(private) == 0 {
		return errors.New("no CodecPrivate")
	}
	t.lengthSize, err = codec.Describe(m)
	return err
}
