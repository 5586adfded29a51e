package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// TestWrongKeysWithRedis floods a server, whose Redis is 40 ms away, with wrong keys. Meanwhile
// valid keys publish, from the same address too, the server stays ready, and no refusal names the
// key store.
func TestWrongKeysWithRedis(t *testing.T) {
	harness.Need(t, "redis-server", "redis-cli")
	t.Parallel()
	const askers, tries, rooms = 100, 12, 5
	r := harness.StartRedis(t)
	s := harness.Start(t, harness.Options{Flags: []string{"--redis_addr=" +
		harness.StartDelayProxy(t, r.Addr(), 40*time.Millisecond)}})
	var keys []string
	for i := range rooms {
		keys = append(keys, s.Key(fmt.Sprint("room", i)))
	}
	addr := s.Addr("rtmp_addr")
	publish := func(from, key string) (string, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		nc, err := d.Dial("tcp", addr)
		if err != nil {
			return "", err
		}
		defer nc.Close()
		c, err := rtmp.OpenConn(nc, "live", patience)
		if err != nil {
			return "", err
		}
		if err := c.Publish(key); err != nil {
			return "", err
		}
		for {
			m, err := c.ReadMessage(patience)
			if err != nil {
				return "", err
			}
			if m.IsCommand("onStatus") {
				return string(m.Payload), nil
			}
		}
	}
	var flood sync.WaitGroup
	var refused atomic.Int64
	for i := range askers {
		flood.Go(func() {
			for n := range tries {
				key := fmt.Sprintf("%048d", i*tries+n)
				answer, err := publish("127.0.0.1", key)
				switch {
				case err != nil:
					t.Errorf("a wrong key: %v", err)
				case !strings.Contains(answer, "NetStream.Publish.BadName") || strings.Contains(answer, "store"):
					t.Errorf("the answer to a wrong key is %q", answer)
				default:
					refused.Add(1)
				}
			}
		})
	}
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		for _, key := range keys {
			if answer, err := publish(from, key); err != nil || !strings.Contains(answer, "NetStream.Publish.Start") {
				t.Errorf("a valid key from %s: %q, %v", from, answer, err)
			}
			if err := checkStatus(s.API("/readyz"), 200); err != nil {
				t.Errorf("during the flood: %v", err)
			}
		}
	}
	flood.Wait()
	if n := refused.Load(); n != askers*tries {
		t.Errorf("%d of %d wrong keys were refused as wrong", n, askers*tries)
	}
	if log := s.Stderr(); strings.Contains(log, "key store") {
		t.Error("the log mentions the key store")
	}
}

// TestSharedKeys has two servers share one Redis: a key that one creates publishes on the other,
// and a key that either revokes is revoked on both within a second.
func TestSharedKeys(t *testing.T) {
	harness.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	r := harness.StartRedis(t)
	flags := []string{"--redis_addr=" + r.Addr()}
	a, b := harness.Start(t, harness.Options{Flags: flags}), harness.Start(t, harness.Options{Flags: flags})
	src := load(t, sample.AV)

	key := a.Key("movie")
	if b.Key("movie") != key {
		t.Fatal("the servers have different keys for one room")
	}
	push := b.PushTo(src.File(t), b.RTMP(key), "-stream_loop", "-1")
	b.AwaitLive("movie")
	if e := a.Call("/control/reset?room=movie"); e.Status != 200 {
		t.Fatalf("reset answers %d %s", e.Status, e.Data)
	}
	awaitUnpublished(t, b, "movie")
	push.Wait(5 * time.Second)
	refused := b.PushTo(src.File(t), b.RTMP(key))
	if refused.Wait(patience) == 0 {
		t.Error("the old key still publishes on the other server")
	}

	push = b.PushTo(src.File(t), b.RTMP(a.Key("movie")), "-stream_loop", "-1")
	b.AwaitLive("movie")
	if e := a.Call("/control/delete?room=movie"); e.Status != 200 {
		t.Fatalf("delete answers %d %s", e.Status, e.Data)
	}
	awaitUnpublished(t, b, "movie")
	push.Wait(5 * time.Second)
	if e := b.Call("/control/delete?room=movie"); e.Status != 404 {
		t.Errorf("a room that one server deleted exists on the other: %d %s", e.Status, e.Data)
	}
}

// TestRedisDownAtStart starts a server without its Redis: it runs, is not ready, and refuses
// publishers with the reason. It serves soon after the Redis has started.
func TestRedisDownAtStart(t *testing.T) {
	harness.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	r := harness.StartRedis(t)
	r.Crash()
	s := harness.Start(t, harness.Options{Flags: []string{"--redis_addr=" + r.Addr()}, NoWait: true})
	harness.Eventually(t, 20*time.Second, "alive", func() error { return checkStatus(s.API("/healthz"), 200) })
	if err := checkStatus(s.API("/readyz"), 503); err != nil {
		t.Error(err)
	}
	if e := s.Call("/control/get?room=movie"); e.Status != 503 || !strings.Contains(e.Text(), "key store unavailable") {
		t.Errorf("get answers %d %s", e.Status, e.Data)
	}
	refused := s.PushTo(load(t, sample.AV).File(t), s.RTMP(strings.Repeat("k", 48)))
	start := harness.StartStopwatch()
	if refused.Wait(patience) == 0 {
		t.Error("it publishes without a key store")
	}
	if start.Exceeded(6 * time.Second) {
		t.Error("refused after more than 6 s")
	}
	s.AwaitStderr(time.Second, func(log string) bool { return strings.Contains(log, "key store unavailable") })

	r.Restart()
	start = harness.StartStopwatch()
	s.AwaitReady()
	if start.Exceeded(5 * time.Second) {
		t.Error("ready more than 5 s after the Redis started")
	}
	if len(s.Key("movie")) != 48 {
		t.Error("no key")
	}
}

// TestRedisLossKeepsStreams stops the Redis while a stream is live: the stream continues, new
// publishers and all changes are refused.
func TestRedisLossKeepsStreams(t *testing.T) {
	harness.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	r := harness.StartRedis(t)
	s, src := harness.Start(t, harness.Options{Flags: []string{"--redis_addr=redis://" + r.Addr() + "/1"}}),
		load(t, sample.AV)
	other := s.Key("other")
	s.Push(src.File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	viewer := watchRTMP(t, s.RTMP("movie"))
	awaitPlayers(t, s, 1)

	r.Pause()
	start := harness.StartStopwatch()
	for _, path := range []string{"/control/get?room=new", "/control/reset?room=movie", "/control/delete?room=movie"} {
		if e := s.Call(path); e.Status != 503 {
			t.Errorf("%s without the Redis: %d %s", path, e.Status, e.Data)
		}
	}
	if start.Exceeded(8 * time.Second) {
		t.Error("three refusals took more than 8 s")
	}
	if s.PushTo(src.File(t), s.RTMP(other)).Wait(patience) == 0 {
		t.Error("an encoder publishes without a key store")
	}
	before := s.Stat().Publishers[0].VideoTotalBytes
	harness.Eventually(t, 5*time.Second, "the stream continues", func() error {
		if now := s.Stat().Publishers[0].VideoTotalBytes; now <= before {
			return fmt.Errorf("%d bytes of video", now)
		}
		return nil
	})
	if viewer.Ended() {
		t.Errorf("the viewer was disconnected:\n%s", viewer.Stderr())
	}
	r.Resume()
	harness.Eventually(t, 5*time.Second, "ready again", func() error { return checkStatus(s.API("/readyz"), 200) })
	s.PushTo(src.File(t), s.RTMP(other)).WaitOK(patience)
}

// checkStatus checks the HTTP status of url.
func checkStatus(url string, want int) error {
	resp, err := harness.Client().Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != want {
		return fmt.Errorf("%s: HTTP %d, want %d: %s", url, resp.StatusCode, want, http.StatusText(want)+" "+string(body))
	}
	return nil
}
