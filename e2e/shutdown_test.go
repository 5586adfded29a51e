package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// TestShutdownEndsViewersCleanly checks that on SIGTERM each viewer's stream ends cleanly.
func TestShutdownEndsViewersCleanly(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	rtmp := watchRTMP(t, s.RTMP("movie"))
	waiting := watchRTMPEarly(t, s.RTMP("nobody"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV("movie")) })
	src.awaitReceived(t, s, 2, 12)
	s.Stop()
	rtmp.WaitOK(5 * time.Second)
	waiting.Wait(5 * time.Second)
	push.Wait(5 * time.Second)
	if got, err := flv(); err != nil {
		t.Errorf("HTTP-FLV: %v", err)
	} else if len(got.Tags) < 10 {
		t.Errorf("HTTP-FLV: %d tags", len(got.Tags))
	}
}

// TestShutdownDelay checks that a server that stops still serves for shutdown_delay, while /readyz
// answers 503, and that its streams end cleanly after that.
func TestShutdownDelay(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{Flags: []string{"--shutdown_delay=3s"}}), load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP(s.Key("movie")), "-stream_loop", "-1")
	s.AwaitLive("movie")
	s.Signal(syscall.SIGTERM)
	harness.Eventually(t, time.Second, "/readyz answers 503", func() error {
		resp, body, err := fetch(t.Context(), harness.Client(), s.API("/readyz"))
		if err == nil && (resp.StatusCode != http.StatusServiceUnavailable) {
			err = fmt.Errorf("HTTP %d: %s", resp.StatusCode, body)
		}
		return err
	})
	if events := harness.Get(t, s.API("/api/v1/events?type=server.stopping")); !bytes.Contains(events, []byte(`"id":`)) {
		t.Errorf("events: %s, want server.stopping among them", events)
	}
	encoder, err := rtmp.Dial(net.Dialer{}, s.Addr("rtmp_addr"), "live", patience)
	if err == nil {
		defer encoder.NetConn.Close()
		err = encoder.Publish(s.Key("late"))
	}
	if err == nil {
		err = encoder.AwaitStart("NetStream.Publish.Start", patience)
	}
	if err != nil {
		t.Errorf("an encoder that comes in the delay: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if view, err := watchHLS(ctx, harness.Client(), s.HLS("movie")); err != nil || len(view.units) == 0 {
		t.Errorf("a viewer that comes in the delay receives %d frames up to EXT-X-ENDLIST, %v", len(view.units), err)
	}
	push.Wait(patience)
	s.WaitStopped()
}

// TestMoveToOtherServer stops a server with reconnect_url. An encoder that understands the Reconnect
// Request of Enhanced RTMP moves to the other server, and its stream is not interrupted meanwhile.
func TestMoveToOtherServer(t *testing.T) {
	t.Parallel()
	other := harness.Start(t, harness.Options{Flags: []string{"--rtmp_noauth"}})
	s := harness.Start(t, harness.Options{Flags: []string{"--rtmp_noauth",
		"--reconnect_url=rtmp://" + other.Addr("rtmp_addr")}})
	nc, err := net.Dial("tcp", s.Addr("rtmp_addr"))
	if err != nil {
		t.Fatal(err)
	}
	old, err := rtmp.OpenConn(nc, "live", patience, "capsEx", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer old.NetConn.Close()
	if err = old.Publish("movie"); err == nil {
		err = old.AwaitStart("NetStream.Publish.Start", patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Signal(syscall.SIGTERM)
	m, err := old.AwaitCommand(patience, "onStatus", "NetConnection.Connect.ReconnectRequest")
	if err != nil {
		t.Fatal(err)
	}
	_, tcURL, _ := bytes.Cut(m.Payload, []byte("tcUrl"))
	u, err := url.Parse(string(tcURL[3 : bytes.IndexByte(tcURL[3:], 0)+3]))
	if err != nil || u.Scheme != "rtmp" || u.Path != "/live" {
		t.Fatalf("tcUrl is %q, %v", tcURL, err)
	}
	moved, err := rtmp.Dial(net.Dialer{}, u.Host, "live", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer moved.NetConn.Close()
	if err = moved.Publish("movie"); err == nil {
		err = moved.AwaitStart("NetStream.Publish.Start", patience)
	}
	if err != nil {
		t.Errorf("the encoder does not publish to the other server: %v", err)
	}
	if n := len(s.Stat().Publishers); n != 1 {
		t.Errorf("%d publishers at the old server before the encoder leaves, want 1", n)
	}
	if err := old.Unpublish("movie"); err != nil {
		t.Error(err)
	}
	old.NetConn.Close()
	s.WaitStopped()
}

// TestShutdownTimeout stops a server with clients that do not leave. It exits with code 0 within
// shutdown_timeout.
func TestShutdownTimeout(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	const timeout = 2 * time.Second
	stalled, err := net.Listen("tcp", "127.0.0.1:0") // the destination of a relay, which never answers
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	s, src := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--rtmp_noauth", "--relay_allow=127.0.0.0/8",
		"--shutdown_delay=200ms", "--reconnect_url=rtmp://other.example.com", "--shutdown_timeout=" + timeout.String(),
		"--flv_archive", "--flv_dir=" + t.TempDir()}}), load(t, sample.AV)
	s.PushTo(src.File(t), s.RTMP("movie"), "-stream_loop", "-1")
	s.AwaitLive("movie")
	if e := s.Call("/control/push?oper=start&app=live&name=movie&url=rtmp://" + stalled.Addr().String() +
		"/live/movie"); e.Status != http.StatusOK {
		t.Fatalf("relay: %d %s", e.Status, e.Data)
	}
	open := func(addr string) net.Conn {
		nc, err := net.Dial("tcp", s.Addr(addr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	open("rtmp_addr")
	open("api_addr")
	fmt.Fprintf(open("httpflv_addr"), "GET /live/movie.flv HTTP/1.1\r\nHost: localhost\r\n\r\n")
	fmt.Fprintf(open("hls_addr"), "GET /live/nobody.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	fmt.Fprintf(open("api_addr"), "GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	fmt.Fprintf(open("api_addr"), "GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := mediaURL(t.Context(), harness.Client(), s.HLS("movie")); err != nil { // a viewer that does not return
		t.Error(err)
	}
	deaf, err := rtmp.OpenConn(open("rtmp_addr"), "live", patience, "capsEx", 1)
	if err == nil {
		err = deaf.Publish("other")
	}
	if err == nil {
		err = deaf.AwaitStart("NetStream.Publish.Start", patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	watch := harness.StartStopwatch()
	s.Stop()
	if slack := 500 * time.Millisecond; watch.Exceeded(timeout + slack) {
		t.Errorf("the server takes longer than %v and %v to exit", timeout, slack)
	}
}

// TestSecondSignal checks that a second signal ends the server at once, with exit code 1.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--shutdown_delay=30s"}})
	s.Signal(syscall.SIGTERM)
	s.AwaitLog(patience, "stopping")
	s.Signal(syscall.SIGTERM)
	if code := s.WaitExit(2 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	s.AwaitLog(patience, "livego: stopped at once by a second signal")
}

// TestNoGoroutineLeft checks that no goroutine of a stream or its viewers remains.
func TestNoGoroutineLeft(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{Flags: []string{"--publish_hold=1s"}}), load(t, sample.AV)
	before := s.Goroutines()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, room := range []string{"one", "two", "three"} {
		push := src.push(s, t, room)
		s.AwaitLive(room)
		viewer := watchRTMP(t, s.RTMP(room))
		flv := async(func() (*mediacompare.FLVFile, error) { return watchFLV(ctx, harness.Client(), s.FLV(room)) })
		hls := async(func() (hlsView, error) { return watchHLS(ctx, harness.Client(), s.HLS(room)) })
		if room == "three" { // one encoder is lost instead of ended
			if _, err := mediaURL(ctx, harness.Client(), s.HLS(room)); err != nil {
				t.Error(err)
			}
			awaitPlayers(t, s, 3)
			push.Kill()
		}
		push.Wait(patience)
		viewer.Wait(patience)
		if _, err := flv(); err != nil {
			t.Errorf("HTTP-FLV: %v", err)
		}
		if _, err := hls(); err != nil {
			t.Errorf("HLS: %v", err)
		}
	}
	harness.Eventually(t, patience, "goroutines have exited", func() error {
		if n := s.Goroutines(); n > before+2 {
			return fmt.Errorf("%d goroutines, %d before the first stream:\n%s", n, before,
				harness.Get(t, s.API("/debug/pprof/goroutine?debug=1")))
		}
		return nil
	})
}

// TestRepublishWithoutMediaKeepsPlaylists publishes a room again by an encoder that sends no media
// and leaves, while viewers request its playlists: they get the playlists of the stream before.
func TestRepublishWithoutMediaKeepsPlaylists(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	src.push(s, t, "movie").WaitOK(patience)
	master := s.HLS("movie")
	playlists := []string{master, master + "?format=ts", strings.Replace(master, ".m3u8", "/index.m3u8", 1)}
	for range 3 {
		c, err := rtmp.Dial(net.Dialer{}, s.Addr("rtmp_addr"), "live", patience)
		if err != nil {
			t.Fatal(err)
		}
		if err = c.Publish(s.Key("movie")); err == nil {
			err = c.AwaitStart("NetStream.Publish.Start", patience)
		}
		if err != nil {
			t.Fatal(err)
		}
		var answers []func() (int, error)
		for _, url := range playlists {
			answers = append(answers, async(func() (int, error) {
				resp, _, err := fetch(ctx, harness.Client(), url)
				if err != nil {
					return 0, err
				}
				return resp.StatusCode, nil
			}))
		}
		if err := c.Unpublish(s.Key("movie")); err != nil {
			t.Error(err)
		}
		c.NetConn.Close()
		for i, answer := range answers {
			if status, err := answer(); err != nil || status != http.StatusOK {
				t.Errorf("%s: HTTP %d, %v", playlists[i], status, err)
			}
		}
	}
}
