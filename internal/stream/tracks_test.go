package stream

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// numbered returns tracks of one kind with these IDs.
func numbered(k media.Kind, ids ...uint8) (tracks []*media.Track) {
	for _, id := range ids {
		tracks = append(tracks, &media.Track{ID: id, Kind: k, Timescale: 90000})
	}
	return tracks
}

func trackFrame(t *media.Track, at time.Duration, key bool) *media.Frame {
	f := &media.Frame{Track: t, Meta: both, DTS: at, PTS: at, Payload: []byte{1}, Arrived: time.Now()}
	if key || t.Kind == media.Audio {
		f.RAP = media.Keyframe
	}
	return f
}

// ids returns the IDs of the frames of kind k.
func ids(k media.Kind, frames []*media.Frame) (ids []uint8) {
	for _, f := range frames {
		if f.Track.Kind == k {
			ids = append(ids, f.Track.ID)
		}
	}
	return ids
}

func trackIDs(k media.Kind, tracks []*media.Track) (ids []uint8) {
	for _, t := range tracks {
		if t.Kind == k {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// TestTracks has three video and two audio tracks, of which most viewers get one each.
func TestTracks(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	v, a := numbered(media.Video, 0, 1, 9), numbered(media.Audio, 3, 2)
	for n := range 60 {
		at := time.Duration(n) * 40 * ms
		key := n%20 == 0
		write(t, p, trackFrame(v[0], at, key), trackFrame(v[1], at, key), trackFrame(v[2], at, n%20 == 10),
			trackFrame(a[0], at, false), trackFrame(a[1], at, false))
	}
	plain := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
	got := readAll(t, plain)
	if got[0].Track != v[0] || got[0].DTS != 40*40*ms {
		t.Errorf("starts with track %d at %v", got[0].Track.ID, got[0].DTS)
	}
	for k, want := range map[media.Kind]uint8{media.Video: 0, media.Audio: 2} {
		if got := slices.Compact(ids(k, got)); !slices.Equal(got, []uint8{want}) {
			t.Errorf("%v: tracks %d, want %d", k, got, want)
		}
		if got := trackIDs(k, plain.Program().Defaults()); !slices.Equal(got, []uint8{want}) {
			t.Errorf("%v: the default is %d, want %d", k, got, want)
		}
	}

	all := mustSubscribe(t, h, SubscribeOptions{GOPs: 1, AllTracks: true})
	if got := trackIDs(media.Video, all.Program().Tracks); !slices.Equal(got, []uint8{0, 1, 9}) {
		t.Errorf("the Program has %d, want all", got)
	}
	got = readAll(t, all)
	if got[0].Track != v[0] || got[1].Track != v[1] {
		t.Errorf("starts with tracks %d and %d", got[0].Track.ID, got[1].Track.ID)
	}
	first := got[slices.IndexFunc(got, func(f *media.Frame) bool { return f.Track == v[2] })]
	if first.RAP == media.NoRandomAccess || first.DTS != 50*40*ms {
		t.Errorf("the third track starts with a frame at %v that is no keyframe", first.DTS)
	}
	if n := len(ids(media.Audio, got)); n != 40 {
		t.Errorf("%d frames of audio, want all 40", n)
	}
}

// TestFirstTrack checks which track is the first if their IDs come in no order.
func TestFirstTrack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		s := mustSubscribeLater(t, h)
		p := mustPublish(t, h, PublishOptions{})
		v := numbered(media.Video, 4, 2, 1)
		write(t, p, trackFrame(v[0], 0, true), trackFrame(v[1], 0, false), trackFrame(v[1], 40*ms, true),
			trackFrame(v[0], 40*ms, false))
		time.Sleep(h.options().TrackWait)
		write(t, p, trackFrame(v[2], 80*ms, true), trackFrame(v[1], 80*ms, false))
		if got := ids(media.Video, readAll(t, <-s)); !slices.Equal(got, []uint8{2, 2}) {
			t.Errorf("tracks %d; want the lower of the first two only, from its keyframe on, and not the late one", got)
		}
	})
}

func mustSubscribeLater(t *testing.T, h *Hub) <-chan *Subscriber {
	got := make(chan *Subscriber)
	go func() {
		s, err := h.Subscribe(t.Context(), movie, SubscribeOptions{Wait: -1, GOPs: 100})
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	synctest.Wait()
	return got
}

// TestFirstTrackComesLast has the track with the lowest ID come after frames of others, as with
// B-frames: no viewer gets these frames.
func TestFirstTrackComesLast(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	v, a := numbered(media.Video, 1, 0), numbered(media.Audio, 0)
	write(t, p, trackFrame(v[0], 0, true), trackFrame(a[0], 0, false), trackFrame(v[0], 40*ms, false),
		trackFrame(v[1], 80*ms, true), trackFrame(v[0], 80*ms, false), trackFrame(v[1], 120*ms, false))
	for _, gops := range []int{1, 10} {
		got := readAll(t, mustSubscribe(t, h, SubscribeOptions{GOPs: gops}))
		if got := ids(media.Video, got); !slices.Equal(got, []uint8{0, 0}) {
			t.Errorf("%d GOPs: pictures of tracks %d", gops, got)
		}
	}
}

// TestBackupTracks switches to a backup whose keyframes of several tracks come together: all of
// them are kept warm.
func TestBackupTracks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		one := mustPublish(t, h, owned(nil, domain.Primary))
		two := mustPublish(t, h, owned(nil, domain.Backup))
		v := numbered(media.Video, 0, 1)
		for n := range 75 {
			at := time.Duration(n) * 40 * ms
			write(t, one, trackFrame(v[0], at, n == 0))
			write(t, two, trackFrame(v[0], at, n%25 == 0), trackFrame(v[1], at, n%25 == 0))
			time.Sleep(40 * ms)
		}
		s := mustSubscribe(t, h, SubscribeOptions{})
		readAll(t, s)
		one.End(Lost)
		got := readAll(t, s)
		if len(got) == 0 || got[0].Track != v[0] || got[0].RAP != media.Keyframe {
			t.Fatalf("after the switch come %d frames", len(got))
		}
		if p := got[0].Program; p.Discontinuity != 1 || !slices.Equal(p.Tracks, v) {
			t.Errorf("the first frame has the Program %s, want all tracks of the backup", formatProgram(p))
		}
	})
}
