package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestPublishRefusalsSayWhy checks that an encoder that is refused gets a helpful reason, and that
// no key is logged.
func TestPublishRefusalsSayWhy(t *testing.T) {
	harness.Need(t, "ffmpeg")
	server := harness.Start(t, harness.Options{})
	src := load(t, sample.AV)
	key := server.Key("movie")
	base := "rtmp://" + server.Addr("rtmp_addr")
	first := server.PushTo(src.File(t), server.RTMP(key), "-stream_loop", "-1")
	server.AwaitLive("movie")

	wrong := strings.Repeat("x", 48)
	t.Run("group", func(t *testing.T) {
		for _, c := range []struct{ name, url, want string }{
			{"unknown app", base + "/cinema/" + key, `(?i)app.*cinema|cinema.*app`},
			{"wrong key", base + "/live/" + wrong, `(?i)key`},
			{"room name as key", base + "/live/movie", `(?i)key`},
			{"name in use", base + "/live/" + key, `(?i)in use|already|publish`},
			{"deep path", base + "/live/x/" + key, `(?i)app|name`},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				p := server.WithT(t).PushTo(src.File(t), c.url, "-v", "verbose")
				start := harness.StartStopwatch()
				if p.Wait(patience) == 0 {
					t.Fatalf("it was accepted:\n%s", p.Stderr())
				}
				if start.Exceeded(5 * time.Second) {
					t.Error("ffmpeg was refused after more than 5 s")
				}
				// ffmpeg prints the description of a refusal after "Server error: ".
				reason := regexp.MustCompile(`Server error: *(.+)`).FindStringSubmatch(p.Stderr())
				if reason == nil || !regexp.MustCompile(c.want).MatchString(reason[1]) {
					t.Errorf("ffmpeg was told %q, want a reason like %s:\n%s", reason, c.want, p.Stderr())
				}
			})
		}
	})
	if first.Ended() {
		t.Errorf("the first publisher was disconnected:\n%s", first.Stderr())
	}
	if log := server.Stdout() + server.Stderr(); strings.Contains(log, key) || strings.Contains(log, wrong) {
		t.Error("a key is in the log")
	}
}

// TestPlayUnknownStream checks that a player of an unknown app is refused, and a player of an empty
// room after play_wait.
func TestPlayUnknownStream(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{Flags: []string{"--play_wait=1s"}})
	for _, url := range []string{"rtmp://" + s.Addr("rtmp_addr") + "/cinema/movie", s.RTMP("nobody")} {
		if p := watchRTMP(t, url); p.Wait(patience) == 0 && strings.Contains(p.Stdout(), "\n0,") {
			t.Errorf("%s plays", url)
		}
	}
}

// TestPublishWithoutAuth checks that with rtmp_noauth a room name publishes, and that a delete ends
// that stream.
func TestPublishWithoutAuth(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{Env: []string{"LIVEGO_RTMP_NOAUTH=true"}}), load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP("movie"))
	s.AwaitLive("movie")
	push.WaitOK(patience)
	awaitUnpublished(t, s, "movie") // so that the next AwaitLive waits for the second stream
	push = s.PushTo(src.File(t), s.RTMP("movie"), "-stream_loop", "-1")
	s.AwaitLive("movie")
	if e := s.Call("/control/delete?room=movie"); e.Status != 200 || e.Text() != "Ok" {
		t.Errorf("delete answers %d %s", e.Status, e.Data)
	}
	awaitUnpublished(t, s, "movie")
	if push.Wait(patience) == 0 {
		t.Error("ffmpeg exits with code 0")
	}
	if e := s.Call("/control/delete?room=movie"); e.Status != 404 {
		t.Errorf("delete again answers %d %s", e.Status, e.Data)
	}
}
