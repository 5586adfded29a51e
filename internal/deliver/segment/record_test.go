package segment

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/media"
	"livego/internal/ops/varint"
)

// recordScene returns Segmenters in every state that has a form of its own in records, their frames,
// and the table of their tracks.
func recordScene() (segmenters map[string]*Segmenter, frames map[uint64]*media.Frame, table *trackTable) {
	segmenters, frames, table = map[string]*Segmenter{}, map[uint64]*media.Frame{}, new(trackTable)
	add := func(name string, fs []*media.Frame, then func(*Segmenter)) {
		s := New(7, Options{Part: 200 * ms})
		programs := programmer{trackWait: 2 * time.Second}
		for i, f := range fs {
			f.Seq = uint64(len(frames) + i)
			programs.set(f)
			s.WriteStream(f)
		}
		for _, f := range fs {
			frames[f.Seq] = f
		}
		if then != nil {
			then(s)
		}
		segmenters[name] = s
	}
	add("no frame", nil, nil)
	add("first segment", interleave(video(0, time.Second, 40*ms, 2*time.Second), audio(0, time.Second)), nil)
	add("complete segments", interleave(video(0, 7*time.Second, 40*ms, 2*time.Second), audio(0, 7*time.Second)),
		(*Segmenter).Flush)
	add("held sound", slices.Concat(interleave(video(0, 3*time.Second, 40*ms, 2*time.Second), audio(0, 3*time.Second)),
		modify(audio(3*time.Second, 3100*ms), changeAudio)), nil)
	add("last parts", video(0, 5*time.Second, 40*ms, 2*time.Second), func(s *Segmenter) { s.Finish() })
	add("pause", video(0, 5*time.Second, 40*ms, 2*time.Second), (*Segmenter).Pause)
	add("end", video(0, 5*time.Second, 40*ms, 2*time.Second), (*Segmenter).End)
	return segmenters, frames, table
}

func TestInvalidRecords(t *testing.T) {
	segmenters, frames, table := recordScene()
	frame := func(seq uint64) *media.Frame { return frames[seq] }
	held := segmenters["held sound"]
	if len(held.buffer.held) == 0 {
		t.Fatal("no sound is held")
	}
	for name, s := range segmenters {
		record := s.Snapshot().AppendRecord(nil, table.id)
		if _, err := DecodeRecord(record, table.track, frame); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range record {
			if _, err := DecodeRecord(record[:n], table.track, frame); err == nil {
				t.Errorf("%s: a record without its last %d bytes is accepted", name, len(record)-n)
			}
		}
	}
	change := func(change func(*Snapshot)) []byte {
		sn := segmenters["complete segments"].Snapshot()
		change(sn)
		return sn.AppendRecord(nil, table.id)
	}
	valid := change(func(*Snapshot) {})
	for _, tt := range []struct {
		name   string
		record []byte
		want   string
	}{
		{"no byte", nil, "record is truncated"},
		{"another version", append([]byte{recordVersion + 1}, valid[1:]...), "unknown version 2"},
		{"bytes after the end", append(bytes.Clone(valid), 0), varint.ErrOverlong.Error()},
		{"segments of no length", change(func(sn *Snapshot) { sn.opt.Segment = 0 }), "invalid options"},
		{"negative length", change(func(sn *Snapshot) { sn.state.target = -1 }), "a length is negative"},
		{"target of days", change(func(sn *Snapshot) { sn.state.target = 48 * time.Hour }), "exceeds the limit"},
		{"stream time of centuries", change(func(sn *Snapshot) { sn.state.end = 1 << 61 }), "exceeds the limit"},
		{"frame that is missing", change(func(sn *Snapshot) { sn.Frames = []*media.Frame{{Seq: 99999}} }),
			"frame 99999 is missing"},
		{"frames out of order", change(func(sn *Snapshot) {
			sn.Frames = append([]*media.Frame{}, sn.Frames...)
			sn.Frames[0], sn.Frames[1] = sn.Frames[1], sn.Frames[0]
		}), "not one of a segment"},
		{"more held frames than frames", change(func(sn *Snapshot) { sn.held = len(sn.Frames) + 1 }), "frames are missing"},
		{"part beyond the frames", change(func(sn *Snapshot) { sn.parts[0].end = len(sn.Frames) + 1 }), "out of order"},
		{"part out of order", change(func(sn *Snapshot) { sn.parts[0].end = sn.parts[1].end + 1 }), "out of order"},
		{"point beyond the frames", change(func(sn *Snapshot) { sn.points[0].index = len(sn.Frames) + 1 }), "out of order"},
		{"gap between parts", change(func(sn *Snapshot) { sn.state.firstFrame++ }), "does not follow the last one"},
		{"published parts that are missing", change(func(sn *Snapshot) { sn.list.parts = len(sn.parts) + 1 }),
			"parts are missing"},
		{"listed segments that are missing", change(func(sn *Snapshot) { sn.list.listed = 99 }), "segments are missing"},
		{"playlist without a segment", change(func(sn *Snapshot) { sn.list.listed = 0 }), "segments are missing"},
		{"segment without parts", change(func(sn *Snapshot) { sn.list.segments[0].parts = nil }), "is incomplete"},
		{"segment without tracks", change(func(sn *Snapshot) { sn.list.segments[0].trackSet = nil }), "is incomplete"},
		{"parts without tracks", change(func(sn *Snapshot) { sn.tracks = nil }), "parts have no tracks"},
		{"gap in the sequence numbers", change(func(sn *Snapshot) { sn.list.segments[1].sequence++ }), "is incomplete"},
		{"video as audio", change(func(sn *Snapshot) { sn.tracks = &trackSet{tracks: [formats]formatTracks{{audio: h264}}} }),
			"a track is not of its kind"},
		{"name of a kilobyte", change(func(sn *Snapshot) { sn.list.segments[0].name = strings.Repeat("a", 1<<10) }),
			"length of a name 1024 exceeds the limit 64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := DecodeRecord(tt.record, table.track, frame); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
	if _, err := DecodeRecord(valid, func(uint64) *media.Track { return nil }, frame); err == nil ||
		!strings.Contains(err.Error(), "track 1 is missing") && !strings.Contains(err.Error(), "track 2 is missing") {
		t.Errorf("error %v without tracks", err)
	}
}

// FuzzRecord restores Segmenters from any record, and writes frames to them.
func FuzzRecord(f *testing.F) {
	segmenters, frames, table := recordScene()
	for _, s := range segmenters {
		f.Add(s.Snapshot().AppendRecord(nil, table.id))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sn, err := DecodeRecord(b, table.track, func(seq uint64) *media.Frame { return frames[seq] })
		if err != nil {
			return
		}
		s := New(1, Options{})
		s.Restore(sn)
		programs := programmer{trackWait: time.Second}
		from := max(0, s.newestDTS)
		next := s.nextFrame
		for _, f := range interleave(video(from, from+3*time.Second, 40*ms, time.Second), audio(from, from+3*time.Second)) {
			f.Seq = next
			next++
			programs.set(f)
			s.WriteStream(f)
			s.Flush()
			for format := range formats {
				_, _ = s.List().Playlist(format, false) // a hostile list may have no playlist
				_, _ = s.List().Playlist(format, true)
			}
		}
		s.Finish()
		s.Pause()
		s.End()
	})
}
