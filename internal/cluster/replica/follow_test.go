package replica_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/cluster/replica"
	"livego/internal/cluster/wire"
	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// send returns a Dial to an owner that sends records, and then closes the connection, or sends nothing
// more if hang is set.
func send(work *sync.WaitGroup, hang bool, records ...wire.Record) func(context.Context, uint64) (net.Conn, error) {
	return func(context.Context, uint64) (net.Conn, error) {
		a, b := net.Pipe()
		work.Go(func() {
			var e wire.Encoder
			for _, r := range records {
				parts := [][]byte{nil}
				if f, ok := r.(*media.Frame); ok {
					parts, _ = e.AppendFrame(nil, nil, f)
				} else {
					parts[0] = e.Append(nil, r)
				}
				for _, p := range parts {
					if _, err := a.Write(p); err != nil {
						return
					}
				}
			}
			if hang {
				_, _ = io.Copy(io.Discard, a)
			}
			a.Close()
		})
		return b, nil
	}
}

// TestFollowEnds has owners that a replica does not follow, or not without end.
func TestFollowEnds(t *testing.T) {
	hello := func(change func(*wire.Hello)) *wire.Hello {
		h := &wire.Hello{Version: wire.Version, Epoch: 7, Path: []string{"owner"}, ReadyAt: 1}
		change(h)
		return h
	}
	video := newH264(1280)
	frame := func(seq uint64) *media.Frame {
		return &media.Frame{Track: video, Program: media.NewProgram(video), Seq: seq, RAP: media.Keyframe, Payload: []byte{1},
			Arrived: time.Now()}
	}
	plain := hello(func(*wire.Hello) {})
	for _, tt := range []struct {
		name    string
		records []wire.Record
		hang    bool
		within  time.Duration
		want    string // "": the stream ended
	}{
		{"end", []wire.Record{plain, frame(0), wire.End{Seq: 1}}, false, 0, ""},
		{"loop", []wire.Record{hello(func(h *wire.Hello) { h.Path = []string{"owner", "self"} })}, false, 0,
			"the stream comes from this server"},
		{"another version", []wire.Record{hello(func(h *wire.Hello) { h.Version++ })}, false, 0,
			"another version of the protocol"},
		{"refusals", []wire.Record{wire.Close{Reason: "nobody is publishing live/movie"}}, false, 25 * time.Second,
			"nobody is publishing live/movie"},
		{"silence", nil, true, 25 * time.Second, "i/o timeout"},
		{"damaged state", []wire.Record{hello(func(h *wire.Hello) {
			h.Cutter, h.BytesVersion = []byte{99}, segment.BytesVersion
		})}, false, time.Minute, "unknown version 99"},
		{"gap", []wire.Record{plain, frame(0), frame(5)}, false, time.Minute, "frame 5 follows frame 1"},
		{"too large a state", []wire.Record{hello(func(h *wire.Hello) {
			h.Cutter, h.CutterNext, h.BytesVersion = []byte{1}, 1<<40, segment.BytesVersion
		}), frame(0), frame(1), frame(2)}, false, time.Minute, "the frames of the state exceed 1200 bytes"},
		{"early end", []wire.Record{plain, frame(0), wire.End{Seq: 9}}, false, time.Minute, "ends at frame 9, not at 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := stream.NewHub(stream.Options{})
				var work sync.WaitGroup
				start := time.Now()
				ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, context.DeadlineExceeded)
				defer cancel()
				err := replica.Follow(ctx, hub, movie, replica.FollowOptions{Node: "self", Log: slog.New(slog.DiscardHandler),
					MaxState: 1200, Dial: send(&work, tt.hang, tt.records...)})
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				if d := time.Since(start); d > max(tt.within, time.Second) {
					t.Errorf("it took %v", d)
				}
				if hub.Has(movie) {
					t.Error("the session has not ended")
				}
				work.Wait()
			})
		})
	}
}

// TestOverrunIsSaid closes the connection of a peer that reads nothing for a while, and says why.
func TestOverrunIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := stream.NewHub(stream.Options{})
		defer hub.Close()
		source := replica.NewSource(hub, replica.SourceOptions{Node: "owner", MaxBehind: 64 << 10, WriteTimeout: time.Minute})
		p, err := hub.Publish(t.Context(), movie, stream.PublishOptions{})
		if err != nil {
			t.Fatal(err)
		}
		video := newH264(1280)
		write := func(seconds int) {
			for i := range seconds * 25 {
				f := &media.Frame{Track: video, Meta: &media.Meta{HasVideo: true}, DTS: time.Duration(i) * 40 * ms,
					Payload: make([]byte, 1000), Arrived: time.Now()}
				if i%25 == 0 {
					f.RAP = media.Keyframe
				}
				if err := p.Write(f); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(1)
		a, b := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- source.Serve(t.Context(), a, movie, 0) }()
		var tracks wire.Tracks
		r := wire.NewReader(b, &tracks)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			synctest.Wait() // the records of these frames are made, and not read
			write(1)
		}
		var last wire.Record
		for {
			record, err := r.Next()
			if err != nil {
				break
			}
			last = record
		}
		if c, ok := last.(wire.Close); !ok || !strings.HasPrefix(c.Reason, "overrun") {
			t.Errorf("the last record is %#v", last)
		}
		if err := <-served; err == nil || !strings.HasPrefix(err.Error(), "overrun") {
			t.Errorf("Serve returned %v", err)
		}
		other := domain.Name{App: "live", Room: "other"}
		if err := source.Serve(t.Context(), discard(t), other, 0); domain.KindOf(err) != domain.NotFound {
			t.Errorf("error %v of a stream that is not published", err)
		}
	})
}

// discard returns a connection whose peer reads all.
func discard(t *testing.T) net.Conn {
	a, b := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, b) }()
	t.Cleanup(func() { b.Close() })
	return a
}

// TestOwnerThatStartsAgainLate has an owner that comes back without frames, and sends pings only. The session
// of a replica ends after the hold.
func TestOwnerThatStartsAgainLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := stream.NewHub(stream.Options{})
		dials := 0
		var work sync.WaitGroup
		first := send(&work, false, &wire.Hello{Version: wire.Version, Epoch: 7, Path: []string{"owner"}})
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		err := replica.Follow(ctx, hub, movie, replica.FollowOptions{Node: "self", Log: slog.New(slog.DiscardHandler),
			Dial: func(ctx context.Context, after uint64) (net.Conn, error) {
				if dials++; dials == 1 {
					return first(ctx, after)
				}
				a, b := net.Pipe()
				work.Go(func() {
					for {
						time.Sleep(time.Second)
						if _, err := a.Write(new(wire.Encoder).Append(nil, wire.Ping{})); err != nil {
							return
						}
					}
				})
				return b, nil
			}})
		if d := time.Since(start); err == nil || d > 25*time.Second || hub.Has(movie) {
			t.Errorf("after %v: %v", d, err)
		}
		work.Wait()
	})
}
