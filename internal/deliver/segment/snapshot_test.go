package segment

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"livego/internal/media"
)

// A trackTable numbers tracks for records.
type trackTable struct{ tracks []*media.Track }

func (t *trackTable) id(track *media.Track) uint64 {
	i := slices.Index(t.tracks, track)
	if i < 0 {
		i = len(t.tracks)
		t.tracks = append(t.tracks, track)
	}
	return uint64(i + 1)
}

func (t *trackTable) track(id uint64) *media.Track {
	if id > uint64(len(t.tracks)) {
		return nil
	}
	return t.tracks[id-1]
}

// restored returns a new Segmenter with the state of s, by way of a record.
func restored(t testing.TB, s *Segmenter, table *trackTable) *Segmenter {
	t.Helper()
	sn := s.Snapshot()
	record := sn.AppendRecord(nil, table.id)
	frames := make(map[uint64]*media.Frame, len(sn.Frames))
	for _, f := range sn.Frames {
		frames[f.Seq] = f
	}
	decoded, err := DecodeRecord(record, table.track, func(seq uint64) *media.Frame { return frames[seq] })
	if err != nil {
		t.Fatal(err)
	}
	if again := decoded.AppendRecord(nil, table.id); !bytes.Equal(again, record) {
		t.Fatalf("the record is %x\nafter decoding and encoding %x", record, again)
	}
	n := New(0, Options{MarkUsed: s.opt.MarkUsed})
	n.Restore(decoded)
	return n
}

// numbered is a recorder that numbers frames and writes them by WriteStream.
func numbered(t testing.TB, restore func(*Segmenter) *Segmenter) *recorder {
	r := newRecorder(t)
	r.stream = true
	if r.restore = restore; restore == nil {
		r.restore = func(s *Segmenter) *Segmenter { return s }
	}
	return r
}

// TestRestoredSegmenterIsIdentical replaces the Segmenter before each frame by one with the state of
// its record. All that players get is the same as from one Segmenter.
func TestRestoredSegmenterIsIdentical(t *testing.T) {
	record := func(frames []*media.Frame, part time.Duration, r *recorder) []byte {
		s := New(7, Options{Part: part, MarkUsed: r.markUsed})
		for i, f := range frames {
			if i == len(frames)/2 && len(frames)%2 == 0 { // in every second scene
				r.finish(s)
				s = r.replace(s)
				r.pause(s)
			}
			s = r.write(s, f)
			s.Flush()
			r.observe(s.List())
		}
		s = r.replace(s)
		r.finish(s)
		s = r.replace(s)
		r.end(s)
		return r.sum()
	}
	for _, tt := range segmentationCases {
		for _, part := range []time.Duration{0, 200 * ms} {
			var table trackTable
			want := record(tt.frames, part, numbered(t, nil))
			got := record(tt.frames, part, numbered(t, func(s *Segmenter) *Segmenter { return restored(t, s, &table) }))
			if !bytes.Equal(got, want) {
				t.Errorf("%s, parts of %v: players get something else", tt.name, part)
			}
		}
	}
	streams := uint64(3)
	if os.Getenv("TEST_LONG") != "" {
		streams = 200
	}
	for seed := range streams {
		var table trackTable
		want := recordStream(seed, numbered(t, nil))
		got := recordStream(seed, numbered(t, func(s *Segmenter) *Segmenter { return restored(t, s, &table) }))
		if !bytes.Equal(got, want) {
			t.Errorf("stream %d: players get something else", seed)
		}
	}
}
