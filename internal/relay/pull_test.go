package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// TestPullReconnectKeepsViewer pulls over RTMP, and over HTTP-FLV with a redirect. After a loss
// the stream is held, and the viewer continues when it returns.
func TestPullReconnectKeepsViewer(t *testing.T) {
	var mu sync.Mutex
	times := 0
	frames := func() int { // few frames on the first connection
		mu.Lock()
		defer mu.Unlock()
		if times++; times == 1 {
			return 20
		}
		return -1
	}
	byRTMP := serve(t, func(ctx context.Context, c *rtmp.ServerConn, req *rtmp.Request) {
		if req.Publish || c.AcceptPlay() != nil {
			return
		}
		sendAudio(ctx, frames(), func(tag flv.Tag) error {
			bufs := net.Buffers(rtmp.AppendMessage(nil,
				rtmp.Header{Type: tag.Type, Timestamp: tag.Timestamp, StreamID: req.StreamID}, tag.Body))
			_, err := c.WriteMedia(&bufs)
			return err
		})
	})
	byHTTP := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/live/there.flv" {
			http.Redirect(w, r, "/live/movie.flv?x=y", http.StatusFound)
			return
		}
		if r.Referer() != "" {
			t.Errorf("the URL was sent as referer: %q", r.Referer())
		}
		w.Write(flv.FileHeader(true, false))
		sendAudio(r.Context(), frames(), func(tag flv.Tag) error {
			_, err := w.Write(flv.AppendTag(nil, tag.Type, tag.Timestamp, tag.Body))
			w.(http.Flusher).Flush()
			return err
		})
	}))
	t.Cleanup(byHTTP.Close)
	for _, url := range []string{byRTMP.url("movie"), byHTTP.URL + "/live/there.flv?token=s3cret"} {
		t.Run(url[:5], func(t *testing.T) {
			mu.Lock()
			times = 0
			mu.Unlock()
			hub, m := newManager(t, nil)
			w := domain.Relay{Direction: domain.Pull, Name: movie, URL: url}
			if _, err := m.Start(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			sub, err := hub.Subscribe(ctx, movie, stream.SubscribeOptions{Wait: testTimeout})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Leave()
			var buf [16]*media.Frame
			last, joins := time.Duration(-1), uint32(0)
			for n := 0; n < 100; {
				got, err := sub.Next(ctx, buf[:])
				if err != nil {
					t.Fatalf("after %d frames: %v", n, err)
				}
				for _, f := range buf[:got] {
					if n++; f.DTS <= last {
						t.Errorf("timestamps go back from %v to %v", last, f.DTS)
					}
					last, joins = f.DTS, f.Program.Discontinuity
				}
			}
			if info, _ := hub.Info(movie); joins == 0 || len(info.Publishers) != 1 || info.Publishers[0].Proto != "pull" ||
				strings.Contains(info.Publishers[0].URL, "s3cret") {
				t.Errorf("discontinuities %d, publishers %+v", joins, info.Publishers)
			}
			if _, err := m.Stop(w); err != nil {
				t.Error(err)
			}
			for err == nil {
				_, err = sub.Next(ctx, buf[:])
			}
			if err != io.EOF {
				t.Errorf("after Stop the subscriber got %v, want EOF", err)
			}
		})
	}
}

// TestPullToleratesNonconformingFLV pulls streams that violate FLV but play in players. Unusable
// parts are counted.
func TestPullToleratesNonconformingFLV(t *testing.T) {
	unknown := func(b []byte) []byte { return append(flv.AppendTag(nil, 15, 0, []byte("unknown")), b...) }
	wrongSize := func(b []byte) []byte { return append(b[:len(b)-4:len(b)-4], 0, 0, 0, 4) }
	for name, change := range map[string]func([]byte) []byte{"unknown tag types": unknown,
		"wrong PreviousTagSize": wrongSize} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Write(flv.FileHeader(true, true))
				// no frame without a configuration
				w.Write(change(flv.AppendTag(nil, flv.TypeVideo, 0, []byte{0x17, 1, 0, 0, 0, 1})))
				sendAudio(r.Context(), -1, func(tag flv.Tag) error {
					_, err := w.Write(change(flv.AppendTag(nil, tag.Type, tag.Timestamp, tag.Body)))
					w.(http.Flusher).Flush()
					return err
				})
			}))
			t.Cleanup(srv.Close)
			hub, m := newManager(t, nil)
			if _, err := m.Start(t.Context(),
				domain.Relay{Direction: domain.Pull, Name: movie, URL: srv.URL + "/live/movie.flv"}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			sub, err := hub.Subscribe(ctx, movie, stream.SubscribeOptions{Wait: testTimeout})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Leave()
			var buf [16]*media.Frame
			for n := 0; n < 20; {
				got, err := sub.Next(ctx, buf[:])
				if err != nil {
					t.Fatalf("after %d frames: %v", n, err)
				}
				n += got
			}
			info, _ := hub.Info(movie)
			if len(info.Publishers) != 1 || info.Publishers[0].Skipped.Skipped[media.SkipNoConfig] != 1 ||
				len(info.Publishers[0].Skipped.Unusable) != 1 {
				t.Errorf("%+v", info.Publishers)
			}
		})
	}
}

// TestPullFailsWithReason pulls from broken servers: each attempt fails in time and with a
// reason.
func TestPullFailsWithReason(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		serve      func(w http.ResponseWriter, r *http.Request)
	}{
		{"not found", "404 Not Found", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "k3y", 404) }},
		{"garbage", "no FLV signature", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>k3y</html>")) }},
		{"a playlist", "no FLV signature",
			func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("#EXTM3U\nfile:///etc/passwd")) }},
		{"a tag of 16 MB", "exceeds the limit", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(append(flv.FileHeader(true, true), 9, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0))
		}},
		{"endless metadata", "messages without a frame", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(flv.FileHeader(true, true))
			for range 2 * maxEmptyMessages {
				w.Write(flv.AppendTag(nil, flv.TypeVideo, 0, []byte{0x17, 0}))
			}
		}},
		{"a ring of servers", "faster than real time", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(flv.AppendTag(flv.FileHeader(true, false), flv.TypeAudio, 0, []byte{0xaf, 0, 0x12, 0x10}))
			for at := time.Duration(0); at < 2*maxAheadOfRealtime; at += 23 * time.Millisecond {
				w.Write(flv.AppendTag(nil, flv.TypeAudio, uint32(at.Milliseconds()), []byte{0xaf, 1, 0x21}))
			}
		}},
		{"endless redirects", "too many redirects",
			func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }},
		{"redirect to metadata", "are forbidden", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		}},
		{"redirect to a file", "cannot be pulled", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
		}},
		{"redirect to a private host", "private", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://10.1.2.3/x.flv", http.StatusFound)
		}},
		{"closes the connection", "closed the connection",
			func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"silent", "no frame within", func(w http.ResponseWriter, r *http.Request) {
			w.Write(flv.AppendTag(append(flv.FileHeader(true, false), flv.AppendTag(nil, 8, 0, []byte{0xaf, 0, 0x12, 0x10})...),
				8, 0, []byte{0xaf, 1, 0x21}))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(tt.serve))
			t.Cleanup(srv.Close)
			timeout := time.Minute
			if tt.name == "silent" {
				timeout = 100 * time.Millisecond
			}
			_, m := newManager(t, func(o *Options) { o.ReadTimeout = timeout })
			if _, err := m.Start(t.Context(),
				domain.Relay{Direction: domain.Pull, Name: movie, URL: srv.URL + "/live/k3y-k3y"}); err != nil {
				t.Fatal(err)
			}
			status := awaitState(t, m, func(s domain.RelayStatus) bool { return s.Attempts > 0 })
			if !strings.Contains(status.Error, tt.want) || strings.Contains(status.Error, "k3y") {
				t.Errorf("error %q, want %q", status.Error, tt.want)
			}
			if n := m.Failures(); n[domain.Pull] == 0 || n[domain.Push] != 0 {
				t.Errorf("failures %v", n)
			}
		})
	}
}

// TestRealtimeLead checks streams in real time, in bursts, and with clock jumps: only a stream
// that is too fast gets a large lead.
func TestRealtimeLead(t *testing.T) {
	video := &media.Track{Kind: media.Video, Codec: media.H264}
	for _, tt := range []struct {
		name  string
		step  func(n int) (dts, arrived time.Duration)
		least time.Duration
		most  time.Duration
	}{
		{"real time", func(n int) (_, _ time.Duration) {
			return time.Duration(n) * time.Second, time.Duration(n) * time.Second
		}, 0, 0},
		{"slower than real time", func(n int) (_, _ time.Duration) {
			return time.Duration(n) * time.Second, time.Duration(2*n) * time.Second
		}, 0, 0},
		{"a burst of a minute, then real time", func(n int) (_, _ time.Duration) {
			return time.Duration(n) * time.Second, time.Duration(max(0, n-60)) * time.Second
		}, time.Minute, time.Minute},
		{"clock jumps forward by an hour", func(n int) (_, _ time.Duration) {
			return time.Duration(n)*time.Second + time.Duration(n/100)*time.Hour, time.Duration(n) * time.Second
		}, 0, 0},
		{"clock jumps back", func(n int) (_, _ time.Duration) {
			return time.Duration(n%100) * time.Second, time.Duration(n) * time.Second
		}, 0, 0},
		{"twice real time", func(n int) (_, _ time.Duration) {
			return time.Duration(n) * time.Second, time.Duration(n) * time.Second / 2
		}, 499 * time.Second, 500 * time.Second},
	} {
		var l realtimeLead
		most := time.Duration(0)
		for n := range 1000 {
			dts, arrived := tt.step(n)
			most = max(most, l.update(&media.Frame{Track: aac, DTS: dts, Arrived: time.Unix(0, 0).Add(arrived)}))
			most = max(most, l.update(&media.Frame{Track: video, DTS: dts + time.Hour, Arrived: time.Unix(0, 0).Add(arrived)}))
		}
		if most < tt.least || most > tt.most {
			t.Errorf("%s: %v ahead, want %v to %v", tt.name, most, tt.least, tt.most)
		}
	}
}

// TestPullObeysAdmissionControl checks that a pull neither starts nor connects while admission
// control allows no new publisher.
func TestPullObeysAdmissionControl(t *testing.T) {
	short := errors.New("short of memory")
	_, m := newManager(t, func(o *Options) { o.Authorizer = admit{err: short} })
	m.options().dialer.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		t.Error("the relay connects")
		return nil, errors.ErrUnsupported
	}
	to, err := parseTarget(domain.Pull, "rtmp://other.example/app/movie", false)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Relay: domain.Relay{Direction: domain.Pull, Name: movie}, target: to, log: slog.New(slog.DiscardHandler)}
	if err := m.pull(t.Context(), r); err != short {
		t.Errorf("%v", err)
	}
}
