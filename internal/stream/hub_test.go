package stream

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

func TestLateViewerStartsAtNewestKeyframe(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 5*time.Hour, 3)
	for _, tt := range []struct {
		gops int
		want time.Duration
	}{{1, 2 * time.Second}, {2, 1 * time.Second}, {100, 0}} {
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: tt.gops})
		got := readAll(t, s)
		if len(got) == 0 || got[0].RAP != media.Keyframe || got[0].Track != h264 || got[0].DTS != tt.want {
			t.Errorf("GOPs %d: first frame %+v, want a keyframe at %v", tt.gops, got[0], tt.want)
		}
		checkMonotonic(t, got)
		s.Leave()
	}
	live := mustSubscribe(t, h, SubscribeOptions{})
	if got := readAll(t, live); len(got) != 0 {
		t.Errorf("live edge: %d frames at once, want none", len(got))
	}
	write(t, p, video(5*time.Hour+3*time.Second-ms, false), audio(5*time.Hour+3*time.Second),
		video(5*time.Hour+3*time.Second, true))
	got := readAll(t, live)
	if len(got) != 2 || got[0].Track != aac || got[1].RAP != media.Keyframe {
		t.Errorf("live edge: got %d frames, want audio, then video from the keyframe", len(got))
	}
}

func TestViewerWaitsForPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		if _, err := h.Subscribe(t.Context(), movie, SubscribeOptions{}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("no wait: %v, want not found", err)
		}
		start := time.Now()
		if _, err := h.Subscribe(t.Context(), movie,
			SubscribeOptions{Wait: 30 * time.Second}); domain.KindOf(err) != domain.NotFound {
			t.Errorf("wait without a publisher: %v, want not found", err)
		}
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("waited %v, want 30s", d)
		}
		if len(h.streams) != 0 {
			t.Errorf("%d stream entries left by a waiter that gave up", len(h.streams))
		}

		got := make(chan *Subscriber)
		go func() {
			s, err := h.Subscribe(t.Context(), movie, SubscribeOptions{Wait: -1, GOPs: 1})
			if err != nil {
				t.Errorf("Subscribe: %v", err)
			}
			got <- s
		}()
		synctest.Wait()
		p := mustPublish(t, h, PublishOptions{})
		write(t, p, video(0, true))
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("the viewer started before the announced audio")
		default:
		}
		write(t, p, audio(0))
		if frames := readAll(t, <-got); len(frames) != 2 {
			t.Errorf("got %d frames, want both", len(frames))
		}
	})
}

func TestStartWaitsForTracksNoLongerThanTrackWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{TrackWait: 2 * time.Second})
		p := mustPublish(t, h, PublishOptions{})
		go func() {
			for i := range 45 {
				p.Write(video(time.Duration(i)*50*ms, i == 0))
				time.Sleep(50 * ms)
			}
		}()
		start := time.Now()
		mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		if d := time.Since(start); d < 1900*ms || d > 2100*ms {
			t.Errorf("started after %v, want 2s", d)
		}
		time.Sleep(time.Second) // the writer ends
	})
}

func TestWaitForKeyframeTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		p := mustPublish(t, h, PublishOptions{})
		write(t, p, video(0, false)) // and never a keyframe
		start := time.Now()
		_, err := h.Subscribe(t.Context(), movie, SubscribeOptions{})
		if domain.KindOf(err) != domain.Unavailable || time.Since(start) != 12*time.Second {
			t.Errorf("after %v: %v, want it to be unavailable after 12 s", time.Since(start), err)
		}
	})
}

// TestViewerEventsLeaveRoomForStreamEvents has many viewers join and leave before the events are
// read: those of the stream are all there.
func TestViewerEventsLeaveRoomForStreamEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: 20 * time.Second})
		all, lost, stop := h.Observe(16, true)
		defer stop()
		streams, lostStreams, stopStreams := h.Observe(4, false)
		defer stopStreams()
		p := mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		for range 100 {
			mustSubscribe(t, h, SubscribeOptions{GOPs: 1}).Leave()
		}
		p.End(Lost)
		time.Sleep(time.Minute)
		var got []EventType
		for len(all) > 0 {
			if e := <-all; !e.ofViewer() {
				got = append(got, e.Type)
			}
		}
		var only []EventType
		for len(streams) > 0 {
			only = append(only, (<-streams).Type)
		}
		want := []EventType{Started, Held, Ended}
		if !slices.Equal(got, want) || !slices.Equal(only, want) || lost() == 0 || lostStreams() != 0 {
			t.Errorf("got %v (%d lost) and %v (%d lost), want %v", got, lost(), only, lostStreams(), want)
		}
	})
}

func TestCleanEndEndsStreamAndLossHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: 20 * time.Second})
		events, _, stop := h.Observe(64, true)
		defer stop()
		p := mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		first := readAll(t, s)

		p.End(Lost)
		time.Sleep(19 * time.Second)
		if in, ok := h.Info(movie); !ok || !in.Held {
			t.Fatalf("not held after loss: %+v", in)
		}
		p = mustPublish(t, h, PublishOptions{})
		gop(t, p, 7*time.Hour, 1)
		second := readAll(t, s)
		checkMonotonic(t, append(first, second...))
		if gap := second[0].DTS - first[len(first)-1].DTS; gap <= 0 || gap > 40*ms {
			t.Errorf("the picture continues after %v, want one frame", gap)
		}
		if second[0].Program.Discontinuity != 1 {
			t.Errorf("discontinuity %d, want 1", second[0].Program.Discontinuity)
		}

		p.End(Lost)
		time.Sleep(21 * time.Second)
		if _, err := s.Poll(make([]*media.Frame, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the hold: %v, want EOF", err)
		}

		p = mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		s = mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		p.End(Clean)
		readAll(t, s)
		if _, err := s.Poll(make([]*media.Frame, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after a clean end: %v, want EOF", err)
		}
		var got []EventType
		for len(events) > 0 {
			if e := <-events; e.Type != Joined {
				got = append(got, e.Type)
			}
		}
		want := []EventType{Started, Held, Resumed, Held, Ended, Started, Ended}
		if len(got) != len(want) {
			t.Fatalf("events %v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("events %v, want %v", got, want)
			}
		}
	})
}

func TestLossBeforeFirstFrameIsNotHeld(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	p := mustPublish(t, h, PublishOptions{})
	p.End(Lost)
	if _, ok := h.Info(movie); ok {
		t.Error("a stream that never had a frame is held")
	}
}

func TestOneOfRacingPublishersWins(t *testing.T) {
	h := NewHub(Options{})
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			switch _, err := h.Publish(context.Background(), movie, PublishOptions{}); {
			case err == nil:
				won.Add(1)
			case domain.KindOf(err) != domain.Conflict:
				t.Errorf("another publisher got %v, want a conflict", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d publishers, want 1", won.Load())
	}
}

func TestTakeover(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy domain.Takeover
		idle   time.Duration
		wins   bool
	}{
		{"active publisher stays", domain.TakeoverIdle, 1900 * ms, false},
		{"idle publisher is replaced", domain.TakeoverIdle, 2 * time.Second, true},
		{"always", domain.TakeoverAlways, 0, true},
		{"never", domain.TakeoverNever, time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHub(Options{})
				first := mustPublish(t, h, PublishOptions{})
				gop(t, first, 0, 1)
				s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
				readAll(t, s)
				time.Sleep(tt.idle)
				second, err := h.Publish(t.Context(), movie, PublishOptions{Takeover: tt.policy})
				if (err == nil) != tt.wins {
					t.Fatalf("the new publisher: %v", err)
				}
				if !tt.wins {
					write(t, first, video(time.Second, true))
					return
				}
				<-first.Done()
				if domain.KindOf(first.Err()) != domain.Conflict {
					t.Errorf("the first publisher got %v", first.Err())
				}
				if first.Write(video(time.Second, true)) == nil {
					t.Error("the first publisher still writes")
				}
				gop(t, second, 0, 1)
				if got := readAll(t, s); len(got) != 50 {
					t.Errorf("the viewer got %d frames of the second publisher, want 50", len(got))
				}
				first.End(Lost) // late: must not end the second's stream
				if in, _ := h.Info(movie); in.Held || len(in.Publishers) != 1 {
					t.Errorf("after the first's end: %+v", in)
				}
			})
		})
	}
}

// TestEndOwners ends the publishers of an owner, and no others. Requests from before are refused if
// they turn out to be of that owner, however late they publish; later ones are not.
func TestEndOwners(t *testing.T) {
	reason := domain.Errorf(domain.Denied, "enough")
	other := domain.Name{App: "live", Room: "other"}
	for _, end := range []bool{false, true} {
		h := NewHub(Options{Hold: time.Hour})
		before := h.NewPublishRequest()
		p := mustPublish(t, h, owned("a", domain.Primary))
		gop(t, p, 0, 1)
		neighbor, err := h.Publish(t.Context(), other, owned("b", domain.Primary))
		if err != nil {
			t.Fatal(err)
		}
		if n := h.EndOwners([]any{"nobody", "a"}, end, reason); n != 1 {
			t.Errorf("end %v: %d streams, want 1", end, n)
		}
		<-p.Done()
		if p.Err() != reason {
			t.Errorf("the publisher got %v", p.Err())
		}
		if neighbor.Err() != nil {
			t.Errorf("another owner's publisher got %v", neighbor.Err())
		}
		if _, ok := h.Info(movie); ok == end {
			t.Errorf("end %v: the stream exists: %v", end, ok)
		}
		between := h.NewPublishRequest()
		h.EndOwners([]any{"c"}, end, reason)
		for _, tt := range []struct {
			request *PublishRequest
			owner   string
			want    error
		}{{before, "a", reason}, {before, "c", reason}, {between, "c", reason}, {between, "a", nil}} {
			p, err := tt.request.Publish(t.Context(), movie, owned(tt.owner, domain.Primary))
			if err != tt.want {
				t.Errorf("a request of %s: %v, want %v", tt.owner, err, tt.want)
			}
			if err == nil {
				p.End(Clean)
			}
		}
		mustPublish(t, h, owned("a", domain.Primary)) // a later request
		h.Close()
	}
}

// TestEndOwnersOfHeldStream ends a held stream only if its publisher's stream is to end.
func TestEndOwnersOfHeldStream(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	defer h.Close()
	p := mustPublish(t, h, owned("a", domain.Primary))
	gop(t, p, 0, 1)
	p.End(Lost)
	if n := h.EndOwners([]any{"a"}, false, errEnded); n != 0 {
		t.Errorf("%d streams lost a publisher", n)
	}
	if n := h.EndOwners([]any{"b"}, true, errEnded); n != 0 {
		t.Errorf("%d streams of another owner ended", n)
	}
	if in, ok := h.Info(movie); !ok || !in.Held {
		t.Error("the held stream has ended")
	}
	if n := h.EndOwners([]any{"a"}, true, errEnded); n != 1 {
		t.Errorf("%d streams ended, want 1", n)
	}
	if _, ok := h.Info(movie); ok {
		t.Error("the held stream remains")
	}
}

// TestEndOwnersKeepsOtherRole ends the owner of a backup: the primary continues.
func TestEndOwnersKeepsOtherRole(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	defer h.Close()
	primary := mustPublish(t, h, owned("a", domain.Primary))
	backup := mustPublish(t, h, owned("b", domain.Backup))
	gop(t, primary, 0, 1)
	h.EndOwners([]any{"b"}, true, errEnded)
	<-backup.Done()
	if in, ok := h.Info(movie); !ok || in.Held || primary.Err() != nil {
		t.Errorf("exists: %v, held: %v, the primary got %v", ok, in.Held, primary.Err())
	}
}

func TestKick(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 0, 1)
	s := mustSubscribe(t, h, SubscribeOptions{})
	why := domain.Errorf(domain.Denied, "because")
	if err := h.Kick(s.ID(), why); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(t.Context(), make([]*media.Frame, 1)); !errors.Is(err, why) {
		t.Errorf("the viewer got %v", err)
	}
	if err := h.Kick(p.ID(), why); err != nil {
		t.Fatal(err)
	}
	if <-p.Done(); p.Err() != why {
		t.Errorf("the publisher got %v", p.Err())
	}
	if err := h.Kick(12345, why); domain.KindOf(err) != domain.NotFound {
		t.Errorf("unknown id: %v", err)
	}
}

func TestViewerBehindRingWaitsForKeyframe(t *testing.T) {
	h := NewHub(Options{RingBytes: 5000})
	p := mustPublish(t, h, PublishOptions{})
	write(t, p, video(0, true), audio(0))
	s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
	readAll(t, s)
	for i := range 100 {
		write(t, p, video(time.Duration(i+1)*ms, false), audio(time.Duration(i+1)*ms))
	}
	for _, f := range readAll(t, s) {
		if f.Track == h264 {
			t.Fatal("video without its keyframe")
		}
	}
	write(t, p, video(200*ms, true))
	if got := readAll(t, s); len(got) != 1 || got[0].RAP != media.Keyframe {
		t.Errorf("video does not come back at the keyframe: %d frames", len(got))
	}
}

func TestKeyFlagIsUsedWithoutKeyframes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{RAPWait: 10 * time.Second})
		p := mustPublish(t, h, PublishOptions{})
		var s *Subscriber
		for i := range 12 * 25 {
			f := video(time.Duration(i)*40*ms, false)
			f.KeyFlag = i%25 == 0 // set in the container, but not in the bitstream
			write(t, p, f, audio(time.Duration(i)*40*ms))
			if i == 75 {
				s = mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
			}
			time.Sleep(40 * ms)
		}
		var firstVideo *media.Frame
		for _, f := range readAll(t, s) {
			if f.Track == h264 && firstVideo == nil {
				firstVideo = f
			}
		}
		if firstVideo == nil || !firstVideo.KeyFlag || firstVideo.DTS < 9*time.Second {
			t.Errorf("first video %+v, want a flagged frame after 10 s", firstVideo)
		}
	})
}

func TestAudioOnly(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	for i := range 1000 {
		f := audio(time.Duration(i) * 23 * ms)
		f.Meta = &media.Meta{HasAudio: true}
		write(t, p, f)
	}
	s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
	if got := readAll(t, s); len(got) < 43 || len(got) > 45 {
		t.Errorf("starts with %d frames, want a second of them", len(got))
	}
}

// TestLeadingPictures checks that leading pictures go to viewers that have received what was before
// the keyframe, and not to viewers that start with it.
func TestLeadingPictures(t *testing.T) {
	h := NewHub(Options{})
	p := mustPublish(t, h, PublishOptions{})
	leading := func(at time.Duration) *media.Frame {
		f := video(at, false)
		f.Leading = true
		return f
	}
	write(t, p, audio(0), video(0, true), leading(40*ms), video(80*ms, false))
	early := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
	if got := readAll(t, early); len(got) != 2 || got[1].DTS != 80*ms {
		t.Errorf("a viewer that starts gets %d frames of 3", len(got))
	}
	write(t, p, video(120*ms, true), leading(160*ms), audio(160*ms), video(200*ms, false))
	if got := readAll(t, early); len(got) != 4 {
		t.Errorf("a viewer from before gets %d frames of 4", len(got))
	}
	if got := readAll(t, mustSubscribe(t, h, SubscribeOptions{GOPs: 1})); len(got) != 3 || got[1].DTS != 160*ms ||
		got[1].Track != aac {
		t.Errorf("a viewer that starts later gets %d frames, want 3", len(got))
	}
}

func TestBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: 20 * time.Second})
		primary := mustPublish(t, h, owned("p", domain.Primary))
		backup := mustPublish(t, h, owned("b", domain.Backup))
		var s *Subscriber
		var got []*media.Frame
		run := func(seconds int, usePrimary, useBackup bool) {
			for i := range seconds * 25 {
				at := time.Duration(time.Now().UnixNano())
				if usePrimary {
					write(t, primary, video(at, i%25 == 0), audio(at))
				}
				if useBackup {
					f := video(at+time.Hour, i%25 == 12)
					f.Payload = make([]byte, 77) // marks the frames of the backup
					write(t, backup, f)
				}
				if s == nil {
					s = mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
				}
				got = append(got, readAll(t, s)...)
				time.Sleep(40 * ms)
			}
		}
		source := func() int { // payload size of the last video frame seen
			for i := len(got) - 1; i >= 0; i-- {
				if got[i].Track == h264 {
					return len(got[i].Payload)
				}
			}
			return 0
		}
		run(5, true, true)
		if source() != 100 {
			t.Fatal("the backup is active beside a healthy primary")
		}
		run(1, false, true)
		if source() != 100 {
			t.Fatal("the backup became active after one second")
		}
		run(3, false, true)
		if source() != 77 {
			t.Fatal("the backup did not become active")
		}
		run(8, true, true)
		if source() != 77 {
			t.Fatal("the primary became active before it was healthy for 10 s")
		}
		run(4, true, true)
		if source() != 100 {
			t.Fatal("the primary did not become active again")
		}
		checkMonotonic(t, got)
		primary.End(Lost)
		run(3, false, true)
		if source() != 77 {
			t.Fatal("the backup did not replace a lost primary")
		}
		backup.End(Clean)
		if _, err := s.Poll(make([]*media.Frame, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after both ended: %v, want EOF", err)
		}
	})
}

// countWakes reads s to its end, and counts wake-ups and frames.
func countWakes(t *testing.T, s *Subscriber, wakes, frames *int) {
	buf := make([]*media.Frame, 64)
	for {
		n, err := s.Next(t.Context(), buf)
		if err != nil {
			return
		}
		*wakes++
		*frames += n
	}
}

func TestBatchWindowWakesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		p := mustPublish(t, h, PublishOptions{})
		write(t, p, video(0, true), audio(0))
		s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		s.SetWindow(50*ms, 0)
		readAll(t, s)
		var wakes, frames int
		done := make(chan struct{})
		go func() {
			defer close(done)
			countWakes(t, s, &wakes, &frames)
		}()
		for i := range 100 {
			time.Sleep(10 * ms)
			write(t, p, video(time.Duration(i+1)*10*ms, false))
		}
		time.Sleep(100 * ms)
		h.Close()
		<-done
		if frames != 100 || wakes > 21 {
			t.Errorf("%d frames in %d wakes, want 100 in about 17", frames, wakes)
		}
	})
}

// TestBatchWindowClosesWithPicture checks that a window does not stay open for a picture that comes
// after it.
func TestBatchWindowClosesWithPicture(t *testing.T) {
	for _, tt := range []struct {
		every, window time.Duration
		late          []time.Duration // delay of the pictures, in turn
	}{
		{33 * ms, 45 * ms, []time.Duration{33 * ms, 0}},
		{40 * ms, 45 * ms, []time.Duration{40 * ms, 0}},
		{20 * ms, 45 * ms, []time.Duration{40 * ms, 20 * ms, 0}},
		{50 * ms, 45 * ms, []time.Duration{0}},
		{40 * ms, 5 * ms, []time.Duration{0}},
		{40 * ms, 0, []time.Duration{0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := NewHub(Options{})
			defer h.Close()
			p := mustPublish(t, h, PublishOptions{})
			write(t, p, video(0, true), audio(0))
			s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
			s.SetWindow(tt.window, 90*ms)
			readAll(t, s)
			var late []time.Duration
			go func() {
				buf := make([]*media.Frame, 16)
				for {
					n, err := s.Next(t.Context(), buf)
					if err != nil {
						return
					}
					for _, f := range buf[:n] {
						late = append(late, time.Since(f.Arrived))
					}
				}
			}()
			const pictures = 30
			for i := range pictures {
				time.Sleep(tt.every)
				write(t, p, video(time.Duration(i+1)*tt.every, false))
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if len(late) != pictures {
				t.Fatalf("%d pictures", len(late))
			}
			for i, got := range late {
				if want := tt.late[i%len(tt.late)]; got != want {
					t.Fatalf("a picture each %v, batched for %v: %v late, want %v in turn", tt.every, tt.window, late, tt.late)
				}
			}
		})
	}
}

// TestAudioWaitsForPicture checks that audio between two pictures causes no wake-up, if the next
// picture comes in time.
func TestAudioWaitsForPicture(t *testing.T) {
	for _, tt := range []struct {
		name   string
		window time.Duration
		wakes  int // in a second with 25 pictures and 50 audio frames, and one without pictures
	}{
		{"each picture wakes at once", 0, 25 + 13},
		{"no two pictures in a window", 30 * ms, 25 + 13},
		{"two pictures in a window", 50 * ms, 13 + 13},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHub(Options{})
				defer h.Close()
				p := mustPublish(t, h, PublishOptions{})
				write(t, p, video(0, true), audio(0))
				s := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
				s.SetWindow(tt.window, 80*ms)
				readAll(t, s)
				var wakes, frames int
				go countWakes(t, s, &wakes, &frames)
				for i := range 100 {
					at := time.Duration(i+1) * 20 * ms
					if time.Sleep(20 * ms); i < 50 && i%2 == 0 {
						write(t, p, video(at, false))
					}
					write(t, p, audio(at))
				}
				time.Sleep(100 * ms)
				synctest.Wait()
				if frames != 125 || wakes < tt.wakes-5 || wakes > tt.wakes+5 {
					t.Errorf("%d frames in %d wakes, want 125 in about %d", frames, wakes, tt.wakes)
				}
			})
		})
	}
}

func TestCloseEndsAll(t *testing.T) {
	h := NewHub(Options{Hold: time.Hour})
	p := mustPublish(t, h, PublishOptions{})
	gop(t, p, 0, 1)
	s := mustSubscribe(t, h, SubscribeOptions{})
	h.Close()
	<-p.Done()
	if _, err := s.Next(t.Context(), make([]*media.Frame, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("viewer: %v, want EOF", err)
	}
	if _, err := h.Publish(t.Context(), movie, PublishOptions{}); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("publish after close: %v", err)
	}
	if _, err := h.Subscribe(t.Context(), movie, SubscribeOptions{Wait: -1}); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("subscribe after close: %v", err)
	}
}

// TestEpoch checks that a session keeps its number during a hold, and that the next has another.
func TestEpoch(t *testing.T) {
	var epoch uint64
	h := NewHub(Options{Hold: time.Hour, Epoch: func(context.Context) (uint64, error) { epoch++; return epoch, nil }})
	for _, tt := range []struct {
		end  EndReason
		want uint64
	}{{Lost, 1}, {Clean, 1}, {Lost, 2}} {
		p := mustPublish(t, h, PublishOptions{})
		gop(t, p, 0, 1)
		if in, _ := h.Info(movie); in.Epoch != tt.want {
			t.Errorf("epoch %d, want %d", in.Epoch, tt.want)
		}
		p.End(tt.end)
	}
}

// TestConcurrentUse runs all operations at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	h := NewHub(Options{Hold: time.Millisecond})
	var publishers, viewers sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 8 {
		viewers.Go(func() {
			for ctx.Err() == nil {
				s, err := h.Subscribe(ctx, movie, SubscribeOptions{Wait: -1, GOPs: 1})
				if err != nil {
					return
				}
				s.SetWindow(time.Millisecond, 0)
				buf := make([]*media.Frame, 8)
				for range 20 {
					n, err := s.Next(ctx, buf)
					if err != nil {
						break
					}
					s.ObserveWritten(buf[:n])
				}
				s.Leave()
				h.Snapshot()
				h.Viewers(movie, 0, make([]ConnInfo, 3))
			}
		})
	}
	for i := range 4 {
		publishers.Go(func() {
			for round := range 50 {
				p, err := h.Publish(ctx, movie, owned(i*100+round, domain.Role(i%2)))
				if err != nil {
					continue
				}
				for f := range 40 {
					if p.Write(video(time.Duration(f)*ms, f%10 == 0)) != nil {
						break
					}
					p.Write(audio(time.Duration(f) * ms))
				}
				if round%5 == 0 {
					h.EndOwners([]any{i*100 + round}, round%2 == 0, errEnded)
				}
				p.End(EndReason(round % 2))
			}
		})
	}
	publishers.Wait()
	cancel()
	viewers.Wait()
}

// TestSessionEndsDuringPublish has a session end after a new publisher found it and before it
// attaches: the publisher's own session needs a number of its own.
func TestSessionEndsDuringPublish(t *testing.T) {
	epoch := uint64(0)
	h := NewHub(Options{Epoch: func(context.Context) (uint64, error) { epoch++; return epoch, nil }})
	old := mustPublish(t, h, PublishOptions{})
	number, err := h.reserveEpoch(context.Background(), movie)
	if number != nil || err != nil {
		t.Fatalf("reserveEpoch with a session: %v, %v", number, err)
	}
	old.End(Clean)
	p := &Publisher{done: make(chan struct{})}
	if err := h.NewPublishRequest().attach(p, movie, number); !errors.Is(err, errNoSession) {
		t.Errorf("attach: %v", err)
	}
	mustPublish(t, h, PublishOptions{})
	if in, _ := h.Info(movie); in.Epoch != 2 {
		t.Errorf("epoch %d, want 2", in.Epoch)
	}
}

// TestBackupGoesIdle has the active backup stop while the primary has been back for a short time
// only.
func TestBackupGoesIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		primary := mustPublish(t, h, owned("a", domain.Primary))
		backup := mustPublish(t, h, owned("b", domain.Backup))
		var at time.Duration
		step := func(publishers ...*Publisher) {
			for _, p := range publishers {
				write(t, p, video(at, at%time.Second == 0))
			}
			at += 40 * ms
			time.Sleep(40 * ms)
		}
		for range 100 {
			step(primary, backup)
		}
		for range 100 {
			step(backup)
		}
		info, _ := h.Info(movie)
		frames, silent := info.Frames, time.Now()
		for info.Frames == frames {
			step(primary)
			info, _ = h.Info(movie)
		}
		if d := time.Since(silent); d > 4*time.Second {
			t.Errorf("viewers got no frame for %v", d)
		}
	})
}

// TestEventsAreInOrder has encoders start, lose and end one stream at once: its events arrive in an
// order that is possible.
func TestEventsAreInOrder(t *testing.T) {
	const rounds = 500
	h := NewHub(Options{Hold: time.Hour, HoldClean: 0})
	events, lost, stop := h.Observe(4*4*rounds, false)
	defer stop()
	var encoders sync.WaitGroup
	for range 4 {
		encoders.Go(func() {
			for round := range rounds {
				p, err := h.Publish(t.Context(), movie, PublishOptions{Takeover: domain.TakeoverAlways})
				if err != nil {
					t.Error(err)
					return
				}
				_ = p.Write(video(0, true)) // fails if another has taken over
				p.End(EndReason(round % 2))
			}
		})
	}
	encoders.Wait()
	h.Close()
	follows := map[EventType][]EventType{
		Started: {Ended}, Held: {Started, Resumed}, Resumed: {Started, Held, Resumed}, Ended: {Started, Held, Resumed},
	}
	last := Ended
	for n := 1; len(events) > 0; n++ {
		e := <-events
		if !slices.Contains(follows[e.Type], last) {
			t.Fatalf("event %d: %s after %s", n, e.Type, last)
		}
		last = e.Type
	}
	if last != Ended || lost() > 0 {
		t.Errorf("the last event is %s, and %d were lost", last, lost())
	}
}
