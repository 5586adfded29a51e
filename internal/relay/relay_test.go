package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// TestBackoffAndFailureEvent checks the times of the attempts and the reported failures.
func TestBackoffAndFailureEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []domain.RelayStatus
		hub, m := newManager(t, func(o *Options) {
			o.Static = map[string][]string{"live": {"rtmp://user:s3cret@other.example/app"}}
			o.Failed = func(s domain.RelayStatus) { told = append(told, s) }
		})
		var at []time.Time
		m.options().dialer.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			at = append(at, time.Now())
			return nil, errors.New("s3cret is down")
		}
		stop := runStatic(m)
		p := publishAudio(t, hub)
		defer p.End(stream.Clean)
		for n := range 60_000 { // 10 minutes
			p.Write(audioFrame(n))
			time.Sleep(10 * time.Millisecond)
		}
		list := m.List()
		stop()
		for i := 1; i < len(at); i++ {
			pause := at[i].Sub(at[i-1])
			if want := min(time.Second<<(min(i, 6)-1), maxBackoff); pause < want/2 || pause > want+50*time.Millisecond {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, want/2, want)
			}
		}
		if n := len(at); n < 20 || n > 50 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		if len(told) != 1 || told[0].Attempts != reportAfter || told[0].Error != "*** is down" ||
			told[0].URL != "rtmp://other.example/app/***" {
			t.Errorf("reported %+v", told)
		}
		if len(list) != 1 || !list[0].Static || list[0].State != stateFailed ||
			list[0].Attempts != len(at) {
			t.Errorf("after %d attempts: %+v", len(at), list)
		}
	})
}

// TestStableRunResetsFailures checks that a stable run resets the failure count.
func TestStableRunResetsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := newManager(t, nil)
		r := &relay{target: &target{}, log: slog.New(slog.DiscardHandler)}
		for _, step := range []struct {
			runs time.Duration
			want int
		}{{0, 1}, {time.Second, 2}, {stableAfter - 1, 3}, {stableAfter, 1}, {0, 2}} {
			m.setState(r, stateRunning)
			time.Sleep(step.runs)
			if got := m.recordFailure(r, io.EOF); got != step.want {
				t.Errorf("after %v: %d failures in a row, want %d", step.runs, got, step.want)
			}
		}
	})
}

// TestStartErrors checks the errors of Start.
func TestStartErrors(t *testing.T) {
	s := serve(t, func(context.Context, *rtmp.ServerConn, *rtmp.Request) {})
	_, m := newManager(t, func(o *Options) { o.Max = 2 })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	push := func(url string) domain.Relay { return domain.Relay{Direction: domain.Push, Name: movie, URL: url} }
	for _, tt := range []struct {
		name string
		w    domain.Relay
		want domain.Kind // Internal: it starts
	}{
		{"connection refused", push("rtmp://" + gone.Addr().String() + "/app/key"), domain.Unavailable},
		{"private address", push("rtmp://10.0.0.1/app/key"), domain.Denied},
		{"invalid URL", push("x"), domain.Invalid},
		{"first", push(s.url("a")), domain.Internal},
		{"duplicate", push(s.url("a")), domain.Conflict},
		{"second", push(s.url("b")), domain.Internal},
		{"above the limit", push(s.url("c")), domain.Limit},
	} {
		_, err := m.Start(t.Context(), tt.w)
		if (err == nil) != (tt.want == domain.Internal) || err != nil && domain.KindOf(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil && strings.Contains(err.Error(), "key") {
			t.Errorf("%s: the error contains the URL: %v", tt.name, err)
		}
	}
	if n := len(m.List()); n != 2 {
		t.Errorf("%d relays", n)
	}
	m.Close()
	if _, err := m.Start(t.Context(), push(s.url("d"))); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}

// TestStopWhileConnecting stops a relay while it connects.
func TestStopWhileConnecting(t *testing.T) {
	_, m := newManager(t, nil)
	tried := make(chan struct{})
	m.options().dialer.lookup = func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
		close(tried)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	w := domain.Relay{Direction: domain.Push, Name: movie, URL: "rtmp://slow.example/app/key"}
	result := make(chan error)
	go func() {
		_, err := m.Start(t.Context(), w)
		result <- err
	}()
	<-tried
	if _, err := m.Stop(w); err != nil {
		t.Error(err)
	}
	if err := <-result; domain.KindOf(err) != domain.Conflict || len(m.List()) != 0 {
		t.Errorf("%v; remaining: %+v", err, m.List())
	}
}

// TestConcurrentStartAndStop starts and stops a relay from several goroutines, and checks that
// none remains.
func TestConcurrentStartAndStop(t *testing.T) {
	s := serve(t, func(context.Context, *rtmp.ServerConn, *rtmp.Request) {})
	hub, m := newManager(t, nil)
	p := publishAudio(t, hub)
	defer p.End(stream.Clean)
	var all sync.WaitGroup
	w := domain.Relay{Direction: domain.Push, Name: movie, URL: s.url("key")}
	for worker := range 8 {
		all.Go(func() {
			for n := range 125 {
				m.Start(t.Context(), w)
				if worker == 0 { // a Publisher is not for concurrent use
					p.Write(audioFrame(n))
				}
				m.List()
				m.Stop(w)
			}
		})
	}
	all.Wait()
	m.Stop(w)
	if list := m.List(); len(list) != 0 {
		t.Errorf("remaining: %+v", list)
	}
}
