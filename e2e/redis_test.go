package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"livego/e2e/rig"
	"livego/e2e/sample"
)

// TestSharedKeys has two servers share one Redis: a key made on one publishes on the other, and what is revoked on either is
// revoked on both within a second.
func TestSharedKeys(t *testing.T) {
	rig.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	r := rig.StartRedis(t)
	flags := []string{"--redis_addr=" + r.Addr()}
	a, b := rig.Start(t, rig.Options{Flags: flags}), rig.Start(t, rig.Options{Flags: flags})
	src := load(t, sample.AV)

	key := a.Key("movie")
	if b.Key("movie") != key {
		t.Fatal("two servers have two keys of one room")
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
		t.Errorf("a room that was deleted on one server is there on the other: %d %s", e.Status, e.Data)
	}
}

// TestRedisDownAtStart starts a server without its Redis: it runs, says that it is not ready, lets nobody publish and tells why; and
// serves soon after the Redis has come.
func TestRedisDownAtStart(t *testing.T) {
	rig.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	r := rig.StartRedis(t)
	r.Crash()
	s := rig.Start(t, rig.Options{Flags: []string{"--redis_addr=" + r.Addr()}, NoWait: true})
	rig.Eventually(t, 20*time.Second, "alive", func() error { return status(s.API("/healthz"), 200) })
	if err := status(s.API("/readyz"), 503); err != nil {
		t.Error(err)
	}
	if e := s.Call("/control/get?room=movie"); e.Status != 503 || !strings.Contains(e.Text(), "key store unavailable") {
		t.Errorf("get answers %d %s", e.Status, e.Data)
	}
	refused := s.PushTo(load(t, sample.AV).File(t), s.RTMP(strings.Repeat("k", 48)))
	start := time.Now()
	if refused.Wait(patience) == 0 {
		t.Error("it publishes without a key store")
	}
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("refused after %v", took)
	}
	s.AwaitStderr(time.Second, func(log string) bool { return strings.Contains(log, "key store unavailable") })

	r.Restart()
	start = time.Now()
	s.AwaitReady()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("ready %v after the Redis came", took)
	}
	if len(s.Key("movie")) != 48 {
		t.Error("no key")
	}
}

// TestRedisDies kills the Redis under a live stream: it goes on, nobody new publishes, nothing is changed.
func TestRedisDies(t *testing.T) {
	rig.Need(t, "ffmpeg", "redis-server", "redis-cli")
	t.Parallel()
	r := rig.StartRedis(t)
	s, src := rig.Start(t, rig.Options{Flags: []string{"--redis_addr=redis://" + r.Addr() + "/1"}}), load(t, sample.AV)
	other := s.Key("other")
	s.Push(src.File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	viewer := watchRTMP(t, s.RTMP("movie"))
	awaitPlayers(t, s, 1)

	r.Pause()
	start := time.Now()
	for _, path := range []string{"/control/get?room=new", "/control/reset?room=movie", "/control/delete?room=movie"} {
		if e := s.Call(path); e.Status != 503 {
			t.Errorf("%s without the Redis: %d %s", path, e.Status, e.Data)
		}
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("three refusals took %v", took)
	}
	if s.PushTo(src.File(t), s.RTMP(other)).Wait(patience) == 0 {
		t.Error("somebody publishes without a key store")
	}
	before := s.Stat().Publishers[0].VideoTotalBytes
	rig.Eventually(t, 5*time.Second, "the stream goes on", func() error {
		if now := s.Stat().Publishers[0].VideoTotalBytes; now <= before {
			return fmt.Errorf("%d bytes of video", now)
		}
		return nil
	})
	if viewer.Ended() {
		t.Errorf("the viewer was disconnected:\n%s", viewer.Stderr())
	}
	r.Resume()
	rig.Eventually(t, 5*time.Second, "ready again", func() error { return status(s.API("/readyz"), 200) })
	s.PushTo(src.File(t), s.RTMP(other)).OK(patience)
}

// status tells when url answers otherwise.
func status(url string, want int) error {
	resp, err := rig.Client().Get(url)
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
