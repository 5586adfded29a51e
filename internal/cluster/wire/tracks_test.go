package wire

import (
	"bytes"
	"testing"

	"livego/internal/media"
)

// TestTracksThatChange has an encoder whose track has another configuration in each GOP. Neither side keeps
// the tracks of the past.
func TestTracksThatChange(t *testing.T) {
	var e Encoder
	var tracks Tracks
	var sent bytes.Buffer
	sent.Write(e.Append(nil, &Hello{Version: Version}))
	r := NewReader(&sent, &tracks)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	for i := range 50_000 {
		track := &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000, Width: i + 1}
		parts, _ := e.AppendFrame(nil, nil, &media.Frame{Track: track, Program: media.NewProgram(track), Seq: uint64(i)})
		for _, p := range parts {
			sent.Write(p)
		}
		record, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if f := record.(*media.Frame); f.Track.Width != i+1 {
			t.Fatalf("frame %d has a width of %d", i, f.Track.Width)
		}
	}
	if len(e.ids) > 10_000 || len(tracks.byID) > 10_000 {
		t.Errorf("the encoder knows %d tracks, the reader %d", len(e.ids), len(tracks.byID))
	}
}
