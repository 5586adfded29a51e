package flv

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"livego/internal/container/amf0"
	"livego/internal/media"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDemuxer(t *testing.T) {
	for _, r := range demuxCases() {
		t.Run(r.name, func(t *testing.T) {
			got, err := r.run(new(Demuxer))
			if errors.Is(err, ErrSkip) != r.skipped || errors.Is(err, ErrUnsupported) != r.unknown || err != nil && !r.skipped {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(r.frames(), got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			for _, f := range got {
				checkFrame(t, f)
			}
		})
	}
}

// TestSkipsAreCounted sends invalid messages and checks how they are counted.
func TestSkipsAreCounted(t *testing.T) {
	var first []media.Skip
	var unusable []media.UnusableTrack
	d := Demuxer{Skips: &media.Skips{
		OnFirst:    func(s media.Skip) { s.Err = nil; first = append(first, s) },
		OnUnusable: func(u media.UnusableTrack) { unusable = append(unusable, u) },
	}}
	send := func(typ uint8, bodies ...string) {
		for _, b := range bodies {
			if _, err := d.Message(typ, 0, []byte(b), time.Time{}); err != nil && !errors.Is(err, ErrSkip) {
				t.Fatal(err)
			}
		}
	}
	send(TypeAudio, "\xAF\x01raw", "\xAF\x01raw", "\xAF\x01")
	send(TypeVideo, "\x17\x00\x00\x00\x00x", "\x91xyzwframe", "\x17\x00\x00\x00\x00"+avcC, "\x17",
		"\x17\x01\x00\x00\x00\x00\x00\x00\x02\xE5\x88"+idr,
		"\x17\x01\x00\x00\x00\x00\x00\x00\x01\x09")
	send(TypeScriptData, "x")
	got := d.Skips.Stats()
	want := media.SkipStats{
		Skipped: map[media.SkipReason]uint64{
			media.SkipNoConfig: 2, media.SkipBadConfig: 1, media.SkipUnsupported: 1, media.SkipMalformed: 1, media.SkipUnit: 1,
			media.SkipMetadata:  1,
			media.SkipNoPicture: 1,
		},
		Silent: 1,
		Unusable: []media.UnusableTrack{{Kind: media.Audio, Codec: "aac", Cause: media.SkipNoConfig,
			Reason: "its configuration (AudioSpecificConfig) has not arrived"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Total() != 8 || len(first) != 7 {
		t.Errorf("%d in total, %d of them first of their kind", got.Total(), len(first))
	}
	// Video was unusable until its configuration arrived.
	if len(unusable) != 2 || unusable[1].Kind != media.Video || unusable[1].Codec != "h264" {
		t.Errorf("%+v", unusable)
	}
	send(TypeAudio, "\xAF\x00"+asc)
	if got := d.Skips.Stats().Unusable; len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// TestRepeatedHeaderKeepsTrack checks that only a changed sequence header or codec makes a new
// track.
func TestRepeatedHeaderKeepsTrack(t *testing.T) {
	var d Demuxer
	session := demuxCase{messages: v("\x17\x00\x00\x00\x00"+avcC, "\x17\x01\x00\x00\x00"+idr)}
	one := session.runOne(t, &d)
	if two := session.runOne(t, &d); two.Track != one.Track {
		t.Error("a repeated header made a new track")
	}
	session.messages[0].body += "\xFF"
	three := session.runOne(t, &d)
	if three.Track == one.Track || len(three.Track.Config) != len(avcC)+1 {
		t.Error("a changed header made no new track")
	}
	if sorenson := (demuxCase{messages: v("\x12\x00\x00")}).runOne(t, &d); sorenson.Track == three.Track {
		t.Error("a changed codec made no new track")
	}
}

// TestMP3TrackFollowsFrameHeaders checks changes that only frame headers show.
func TestMP3TrackFollowsFrameHeaders(t *testing.T) {
	var d Demuxer
	var tracks []*media.Track
	for _, b := range []string{"\x2F\xFF\xFB\x90\x64", "\x2F\xFF\xFB\x92\x64", "\x2F\xFF\xFB\x90\xC4",
		"\x2F\xFF\xFB\x94\xC4"} {
		tracks = append(tracks, demuxCase{messages: a(b)}.runOne(t, &d).Track)
	}
	if tracks[0] != tracks[1] || tracks[1] == tracks[2] || tracks[2] == tracks[3] {
		t.Errorf("tracks %p", tracks)
	}
}

// TestTooManyHeadersEndPublisher sends more configuration changes than are allowed.
func TestTooManyHeadersEndPublisher(t *testing.T) {
	var d Demuxer
	now := time.Unix(1, 0)
	send := func(i int) error {
		_, err := d.Message(TypeVideo, 0, []byte("\x17\x00\x00\x00\x00"+avcC+string(rune('a'+i))), now)
		return err
	}
	for i := range maxConfigChanges + 1 { // the first is not a change
		if err := send(i); err != nil {
			t.Fatalf("header %d: %v", i, err)
		}
	}
	if err := send(maxConfigChanges + 1); !errors.Is(err, ErrFlood) {
		t.Errorf("header %d: %v", maxConfigChanges+1, err)
	}
	now = now.Add(configWindow)
	if err := send(0); err != nil {
		t.Errorf("after the window: %v", err)
	}
}

func TestTimestampsAreUnwrapped(t *testing.T) {
	tests := []struct {
		name   string
		stamps []uint32
		want   []int64
	}{
		{"across 2^32", []uint32{1<<32 - 40, 0, 40}, []int64{1<<32 - 40, 1 << 32, 1<<32 + 40}},
		{"across 2^31", []uint32{1<<31 - 1, 1<<31 + 39}, []int64{1<<31 - 1, 1<<31 + 39}},
		{"step back", []uint32{100, 60, 140}, []int64{100, 60, 140}},
		{"below the start", []uint32{0, 1<<32 - 40}, []int64{0, -40}},
		{"24 days", []uint32{0, 24 * 86400e3}, []int64{0, 24 * 86400e3}},
		{"across 2^24", []uint32{0xFFFFFE, 0x1000000}, []int64{0xFFFFFE, 0x1000000}},
	}
	for _, tt := range tests {
		var c unwrapper
		for i, s := range tt.stamps {
			if got := c.advance(s).Milliseconds(); got != tt.want[i] {
				t.Errorf("%s: timestamp %d is %d, want %d", tt.name, i, got, tt.want[i])
			}
		}
	}
}

// TestTrackAndColorChangesAreLimited sends more tracks and color changes than are accepted.
func TestTrackAndColorChangesAreLimited(t *testing.T) {
	var d Demuxer
	for id := range 256 {
		_, err := d.Message(TypeVideo, 0, []byte("\x96\x00hvc1"+string([]byte{byte(255 - id)})+hvcC), time.Time{})
		if tooMany := id >= maxTracks && id != 255; errors.Is(err, ErrSkip) != tooMany {
			t.Errorf("track %d: %v", 255-id, err)
		}
	}
	if len(d.tracks) > maxTracks+2 {
		t.Errorf("%d tracks", len(d.tracks))
	}
	for i := range 100 {
		hdr := amf0.Append(nil, "colorInfo", amf0.Object{{Key: "hdrCll", Value: amf0.Object{{Key: "maxCLL", Value: i + 1}}}})
		if _, err := d.Message(TypeVideo, 0, append([]byte("\x94hvc1"), hdr...), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	want := amf0.Append(nil, "colorInfo",
		amf0.Object{{Key: "hdrCll", Value: amf0.Object{{Key: "maxCLL", Value: maxConfigChanges}}}})
	if got := d.tracks[trackKey{kind: media.Video}].colors; !bytes.Equal(got, want) {
		t.Errorf("current color metadata %q, want %q", got, want)
	}
}

func TestDemuxerAllocatesFrameOnly(t *testing.T) {
	var d Demuxer
	if _, err := (demuxCase{messages: v("\x17\x00\x00\x00\x00" + avcC)}).run(&d); err != nil {
		t.Fatal(err)
	}
	body := []byte("\x17\x01\x00\x00\x00" + idr)
	n := testing.AllocsPerRun(100, func() {
		if frames, err := d.Message(TypeVideo, 40, body, time.Time{}); len(frames) != 1 || err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations per frame, want only the Frame", n)
	}
}

// TestOversizedConfigIsSkipped sends a valid configuration with excess bytes, which every viewer
// would receive.
func TestOversizedConfigIsSkipped(t *testing.T) {
	var d Demuxer
	for _, n := range []int{maxConfigSize - len(avcC), maxConfigSize} {
		_, err := d.Message(TypeVideo, 0, []byte("\x17\x00\x00\x00\x00"+avcC+strings.Repeat("x", n)), time.Now())
		if tooLong := n == maxConfigSize; errors.Is(err, ErrSkip) != tooLong {
			t.Errorf("%d bytes: %v", len(avcC)+n, err)
		}
	}
	if got := len(d.tracks[trackKey{kind: media.Video}].track.Config); got != maxConfigSize {
		t.Errorf("current configuration of %d bytes, want %d", got, maxConfigSize)
	}
}
