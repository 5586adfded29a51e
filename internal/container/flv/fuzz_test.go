package flv

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"livego/internal/codec"
	"livego/internal/media"
)

// FuzzDemuxer sends two messages after configurations of video and audio, so that every branch has
// its state, and encodes the resulting frames.
func FuzzDemuxer(f *testing.F) {
	for _, r := range demuxCases() {
		m := r.messages
		f.Add(m[0].typ, []byte(m[0].body), m[len(m)-1].typ, []byte(m[len(m)-1].body), uint32(1<<31))
	}
	f.Fuzz(func(t *testing.T, typ1 uint8, body1 []byte, typ2 uint8, body2 []byte, timestamp uint32) {
		var d Demuxer
		for _, m := range []struct {
			typ  uint8
			body []byte
		}{{TypeVideo, []byte("\x17\x00\x00\x00\x00" + avcC)}, {TypeAudio, []byte("\xAF\x00" + asc)}, {typ1, body1},
			{typ2, body2}} {
			frames, err := d.Message(m.typ, timestamp, m.body, time.Time{})
			if err != nil && !errors.Is(err, ErrSkip) || len(frames) > maxTracks {
				t.Fatalf("%d frames, error %v", len(frames), err)
			}
			for _, f := range frames {
				checkFrame(t, f)
			}
		}
	})
}

// checkFrame checks the contract of a frame, and that encoding and decoding it again returns the
// same frame.
func checkFrame(t *testing.T, f *media.Frame) {
	t.Helper()
	if f.Track == nil || f.Track.Timescale == 0 || len(f.Payload) == 0 || (f.PTS-f.DTS).Abs() > maxCTS {
		t.Fatalf("%+v of %+v", f, f.Track)
	}
	for _, dialect := range []Dialect{{}, {Multitrack: true}, {LegacyHEVC: true}} {
		checkRoundTrip(t, dialect, f)
	}
}

// checkRoundTrip encodes f for a dialect, with the messages before it, and decodes the result.
func checkRoundTrip(t *testing.T, dialect Dialect, f *media.Frame) {
	t.Helper()
	var d Demuxer
	var pre Preamble
	pre.Dialect = dialect
	for _, tag := range pre.Append(nil, f, media.NewProgram(f.Track)) {
		if _, err := d.Message(tag.Type, tag.Timestamp, tag.Body, time.Time{}); err != nil {
			t.Fatalf("%+v: decoding our own %x: %v", dialect, tag.Body, err)
		}
	}
	header, payload := dialect.TagBody(f)
	frames, err := d.Message(MessageType(f.Track.Kind), Timestamp(f), append(header, payload...), time.Time{})
	if codec.SelfDescribing(f.Track.Codec) && errors.Is(err, ErrSkip) {
		return // a truncated frame is valid only after a whole one
	}
	if err != nil || len(frames) != 1 {
		t.Fatalf("%+v: %+v decoded to %d frames, %v", dialect, f, len(frames), err)
	}
	again := frames[0]
	if again.RAP != f.RAP || again.PTS-again.DTS != f.PTS-f.DTS || !bytes.Equal(again.Payload, f.Payload) ||
		again.Track.Codec != f.Track.Codec || !bytes.Equal(again.Track.Config, f.Track.Config) ||
		dialect.Multitrack && again.Track.ID != f.Track.ID {
		t.Fatalf("%+v: %+v of %+v decoded to %+v of %+v", dialect, f, f.Track, again, again.Track)
	}
	if described := dialect.colorMetadata(f.Track) != nil && !bytes.Equal(f.Track.ColorInfo, resetColorInfo); described &&
		!bytes.Equal(again.Track.ColorInfo, f.Track.ColorInfo) {
		t.Fatalf("%+v: %x decoded to %x", dialect, f.Track.ColorInfo, again.Track.ColorInfo)
	}
}
