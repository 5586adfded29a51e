package stream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

// every subscribes to every frame of the movie.
func every(t *testing.T, h *Hub, gops int, notes bool) *Subscriber {
	t.Helper()
	s := mustSubscribe(t, h, SubscribeOptions{Viewer: ViewerOptions{Internal: true}, Every: true, Notes: notes,
		GOPs: gops})
	s.SeekStart(gops)
	return s
}

// next returns the Seqs of the frames up to the next error, and that error; nil if nothing is ready.
func next(s *Subscriber) (seqs []uint64, err error) {
	buf := make([]*media.Frame, 3)
	for {
		n, err := s.Poll(buf)
		if n == 0 {
			return seqs, err
		}
		for _, f := range buf[:n] {
			seqs = append(seqs, f.Seq)
		}
	}
}

func mustRead(t *testing.T, s *Subscriber, want []uint64, wantErr error) {
	t.Helper()
	if got, err := next(s); !slices.Equal(got, want) || !errors.Is(err, wantErr) {
		t.Errorf("frames %v and error %v, want %v and %v", got, err, want, wantErr)
	}
}

// TestMarksAreBetweenFrames pauses a session and continues it: a reader of every frame gets the marks at
// their place, and another reader the frames alone.
func TestMarksAreBetweenFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: time.Minute})
		defer h.Close()
		p := mustPublish(t, h, owned("a", domain.Primary))
		write(t, p, video(0, true), audio(0))
		s, plain := every(t, h, 1, true), mustSubscribe(t, h, SubscribeOptions{GOPs: 9})
		if s.Pause() {
			t.Error("a session with a publisher was paused")
		}
		p.End(Lost)
		if s.Pause() {
			t.Error("a session with frames that were not read was paused")
		}
		mustRead(t, s, []uint64{0, 1}, nil)
		if !s.Pause() || s.Pause() {
			t.Error("a session without a publisher is not paused, or is twice")
		}
		mustRead(t, s, nil, ErrMark)
		s.Note("first")
		p = mustPublish(t, h, owned("b", domain.Primary))
		write(t, p, video(0, true))
		s.Note("second")
		for _, want := range []Mark{{2, Paused, nil}, {2, Noted, "first"}, {2, Continued, nil}} {
			if m, ok := s.Mark(); !ok || m != want {
				t.Errorf("mark %v %v, want %v", m, ok, want)
			}
		}
		if m, ok := s.Mark(); ok {
			t.Errorf("mark %v before a frame that was not read", m)
		}
		mustRead(t, s, []uint64{2}, ErrMark)
		if m, ok := s.Mark(); !ok || m.Value != "second" || m.Seq != 3 {
			t.Errorf("mark %v %v", m, ok)
		}
		mustRead(t, plain, []uint64{0, 1, 2}, nil)

		s.Seek(2)
		if m, ok := s.Mark(); !ok || m.Kind != Paused {
			t.Errorf("mark %v %v after Seek", m, ok)
		}
		p.End(Clean)
		for errors.Is(lastError(s), ErrMark) {
			s.Mark()
		}
		if err := lastError(s); !errors.Is(err, io.EOF) {
			t.Errorf("error %v at the end", err)
		}
	})
}

func lastError(s *Subscriber) error {
	_, err := next(s)
	return err
}

// TestEveryFrameOrNone reads a stream later than the ring keeps it: the reader does not skip.
func TestEveryFrameOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{KeepTime: time.Second, RingTime: 2 * time.Second})
		defer h.Close()
		p := mustPublish(t, h, owned("a", domain.Primary))
		write(t, p, video(0, true), audio(0))
		s := every(t, h, 1, false)
		gop(t, p, 40*ms, 6)
		mustRead(t, s, nil, ErrMissed)
		if _, err := s.WaitUntil(context.Background(), make([]*media.Frame, 1), time.Hour); !errors.Is(err, ErrMissed) {
			t.Errorf("error %v", err)
		}
		s.SeekStart(1)
		got, err := next(s)
		if len(got) == 0 || err != nil || got[len(got)-1] != s.Position()-1 {
			t.Errorf("frames %v, error %v", got, err)
		}
	})
}

// replicate starts a replicated session with the frames of owned, which is complete.
func replicate(t *testing.T, h *Hub, o ReplicaOptions) *Replica {
	t.Helper()
	r, err := h.Replicate(movie, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// streamFrames returns n frames in stream time, with Seqs from first on.
func streamFrames(first uint64, n int) (frames []*media.Frame) {
	program := media.NewProgram(h264)
	for i := range n {
		f := video(time.Duration(i)*40*ms, i == 0)
		f.Seq, f.Program = first+uint64(i), program
		frames = append(frames, f)
	}
	return frames
}

// TestReplicaWritesAsItIs writes frames of another server: nothing about them changes, viewers wait for
// the newest of them, and a gap is noticed.
func TestReplicaWritesAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		defer h.Close()
		since := time.Now().Add(-time.Hour)
		r := replicate(t, h, ReplicaOptions{Epoch: 7, Since: since, From: 100, ReadyAt: 103})
		frames := streamFrames(100, 4)
		for i, f := range frames {
			if h.Ready(movie) != (i == 3) {
				t.Errorf("before frame %d viewers may start: %v", i, h.Ready(movie))
			}
			want := *f
			if err := r.Write(f); err != nil {
				t.Fatal(err)
			}
			if f.DTS != want.DTS || f.Seq != want.Seq || f.Program != want.Program {
				t.Errorf("frame %d was changed: %+v", i, f)
			}
		}
		in, ok := h.Info(movie)
		if !ok || !in.Replicated || in.Held || in.Epoch != 7 || !in.Since.Equal(since) || r.Next() != 104 {
			t.Errorf("session %+v, next frame %d", in, r.Next())
		}
		viewer := mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
		mustRead(t, viewer, []uint64{100, 101, 102, 103}, nil)

		again := streamFrames(102, 2)
		s := every(t, h, 1, false)
		for _, f := range again {
			_ = r.Write(f)
		}
		s.Seek(102)
		buf := make([]*media.Frame, 9)
		if n, _ := s.Poll(buf); n != 2 || buf[0] != again[0] || buf[1] != again[1] {
			t.Errorf("%d frames, not those that came again", n)
		}
		_ = r.Write(streamFrames(200, 1)[0])
		mustRead(t, s, nil, ErrMissed)
		mustRead(t, viewer, []uint64{200}, nil)

		r.Mark(Paused, nil)
		if in, _ := h.Info(movie); !in.Held {
			t.Error("a paused session is not held")
		}
		if s.SeekStart(0); s.Pause() {
			t.Error("a replica paused its session")
		}
		r.Abandon()
		if err := lastError(viewer); !errors.Is(err, ErrAbandoned) {
			t.Errorf("error %v at the end of an abandoned session", err)
		}
		if err := r.Write(streamFrames(201, 1)[0]); domain.KindOf(err) != domain.Conflict {
			t.Errorf("error %v of a session that has ended", err)
		}
	})
}

// TestReplicaIsNotOwned has no publisher, no events and no consumer of owned sessions for a session that
// another server owns.
func TestReplicaIsNotOwned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var ran []string
		var waits []func()
		for _, c := range []Consumer{{Name: "owned"}, {Name: "all", Replicas: true}} {
			c.Log = slog.New(slog.DiscardHandler)
			c.Run = func(_ context.Context, s *Session) error {
				mu.Lock()
				defer mu.Unlock()
				if ran = append(ran, c.Name); !s.Replicated() {
					ran = append(ran, "owned session")
				}
				return nil
			}
			waits = append(waits, h.Supervise(ctx, c))
		}
		events, _, stop := h.Observe(10, false)
		defer stop()
		r := replicate(t, h, ReplicaOptions{})
		synctest.Wait()
		if !slices.Equal(ran, []string{"all"}) {
			t.Errorf("consumers %v", ran)
		}
		if _, err := h.Publish(ctx, movie, owned("a", domain.Primary)); domain.KindOf(err) != domain.Conflict {
			t.Errorf("publish on a replica: error %v", err)
		}
		if _, err := h.Replicate(movie, ReplicaOptions{}); domain.KindOf(err) != domain.Conflict {
			t.Errorf("second replica: error %v", err)
		}
		if h.EndStream(movie, false, errors.New("deleted")) || h.EndOwners([]any{nil, "a"}, true, io.EOF) != 0 {
			t.Error("the session of another server was ended")
		}
		if totals := h.Totals(); totals.Replicated != 1 || totals.Live != 0 || totals.Held != 0 {
			t.Errorf("totals %+v", totals)
		}
		r.End()
		if h.Has(movie) || len(events) != 0 {
			t.Errorf("session %v, %d events", h.Has(movie), len(events))
		}
		mustPublish(t, h, owned("a", domain.Primary))
		synctest.Wait()
		if _, err := h.Replicate(movie, ReplicaOptions{}); domain.KindOf(err) != domain.Conflict {
			t.Errorf("replica of a session that this server owns: error %v", err)
		}
		h.Close()
		cancel()
		for _, wait := range waits {
			wait()
		}
	})
}

// TestRestartComesAtOnce gives a reader the state of the owner before what it has not read, and asks for
// it once.
func TestRestartComesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		defer h.Close()
		r := replicate(t, h, ReplicaOptions{})
		for _, f := range streamFrames(0, 3) {
			_ = r.Write(f)
		}
		s := every(t, h, 1, false)
		r.requestRestart(io.ErrUnexpectedEOF)
		r.requestRestart(io.EOF)
		if err := r.RestartRequest(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("restart because of %v", err)
		}
		r.requestRestart(io.EOF)
		r.StartRestart(0)
		r.requestRestart(io.EOF)
		if err := r.RestartRequest(); err != nil {
			t.Errorf("restart because of %v, while one is under way", err)
		}
		mustRead(t, s, nil, ErrMark)
		if m, _ := s.Mark(); m.Kind != Restarting {
			t.Errorf("mark %v", m)
		}
		mustRead(t, s, []uint64{0, 1, 2}, nil)
		r.Restart("state")
		if m, ok := s.Mark(); !ok || m.Kind != Restarted || m.Value != "state" {
			t.Errorf("mark %v %v", m, ok)
		}
		r.requestRestart(io.EOF)
		if err := r.RestartRequest(); !errors.Is(err, io.EOF) {
			t.Errorf("restart because of %v", err)
		}
	})
}

// TestKeptFrames publishes more than the ring holds while a reader keeps frames: they stay up to twice the
// limit, and until the reader keeps others or leaves.
func TestKeptFrames(t *testing.T) {
	const frame, limit = 1000 + frameOverhead, 20
	h := NewHub(Options{KeepTime: time.Nanosecond, RingTime: time.Second, RingBytes: limit * frame})
	defer h.Close()
	p := mustPublish(t, h, PublishOptions{})
	big := func(i int, key bool) *media.Frame {
		f := video(time.Duration(i)*10*time.Second, key) // each is older than RingTime at the next one
		f.Payload = make([]byte, 1000)
		return f
	}
	write(t, p, video(0, true), audio(0)) // viewers may start
	s := every(t, h, 0, false)
	oldest := func(want uint64) {
		t.Helper()
		if got := s.s.ring.tail; got != want {
			t.Errorf("the oldest frame is %d, want %d", got, want)
		}
	}
	for i := 2; i < 10; i++ {
		write(t, p, big(i, false))
	}
	oldest(9)
	s.Keep(9)
	for i := 10; i < 40; i++ {
		write(t, p, big(i, false))
	}
	oldest(9)
	s.Keep(30)
	write(t, p, big(40, false))
	oldest(30)
	for i := 41; i < 100; i++ {
		write(t, p, big(i, false))
	}
	oldest(100 - maxPinned*limit)
	s.Leave()
	write(t, p, big(100, false))
	oldest(100)
}
