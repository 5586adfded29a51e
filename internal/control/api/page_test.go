package api

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// text returns the visible text of a page, in one line.
func text(page string) string {
	page = regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>|<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(page)), " ")
}

func wantText(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("the page lacks %q:\n%s", w, got)
		}
	}
}

func TestEmptyPage(t *testing.T) {
	s := newFixture(t, nil)
	w := s.get("/")
	wantStatus(t, w, 200)
	if got := w.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	wantText(t, text(w.Body.String()), "Nothing is live.",
		"http://localhost:8090/control/get?room=movie",
		"ffmpeg -re -i demo.flv -c copy -f flv rtmp://localhost:1935/live/ KEY",
		"rtmp://localhost:1935/live/movie", "http://localhost:7001/live/movie.flv", "http://localhost:7002/live/movie.m3u8",
		"livego 1.2.3")
	wantText(t, w.Body.String(), "<details open>", `<meta http-equiv="refresh" content="5">`,
		`<a href="rtmp://localhost:1935/live/movie"`)
}

// TestPageWithoutApps checks that the quick start is missing if no app accepts publishers.
func TestPageWithoutApps(t *testing.T) {
	w := newFixture(t, func(o *Options) { o.Apps = nil }).get("/")
	wantStatus(t, w, 200)
	if got := text(w.Body.String()); strings.Contains(got, "three steps") {
		t.Errorf("the page has the quick start: %s", got)
	}
}

// TestLivePage checks that the page shows live streams, and escapes markup from clients.
func TestLivePage(t *testing.T) {
	s := newFixture(t, nil)
	movie, quiet := domain.Name{App: "live", Room: "movie"}, domain.Name{App: "quiet", Room: "radio"}
	s.publish(movie, domain.KeyRef{})
	s.watch(movie, "hls", "", 0, 0)
	s.watch(movie, "rtmp", "", 0, 0)
	s.watch(movie, "hls", "", 0, 0)
	s.publish(quiet, domain.KeyRef{}).End(stream.Lost)
	w := s.get("/")
	body := w.Body.String()
	got := text(body)
	wantText(t, got, "2 live · livego", "live/movie live", "3 viewers", "H264 · 1920×1080 · 30 fps · ",
		"AAC · 44.1 kHz · stereo · ",
		"rtmp from 192.0.2.7, OBS <b>30</b>", "2 hls, 1 rtmp", "quiet/radio waiting for the encoder", "0 viewers",
		"problem Of live/movie.")
	if strings.Contains(body, "<b>30") || strings.Contains(body, "<script>alert") {
		t.Error("markup from a client is part of the page")
	}
	if strings.Contains(got, "radio.flv") || strings.Contains(got, "radio.m3u8") {
		t.Error("the page links to what the app does not serve")
	}
	if strings.Contains(body, "<details open>") {
		t.Error("the quick start is open although a stream is live")
	}
}

// TestPagePolicy checks that the policy allows the page's style and script by their digests, and
// nothing else.
func TestPagePolicy(t *testing.T) {
	w := newFixture(t, nil).get("/")
	policy := w.Header().Get("Content-Security-Policy")
	for _, element := range []string{"style", "script"} {
		found := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(w.Body.String(), -1)
		if len(found) != 1 {
			t.Fatalf("%d elements %s", len(found), element)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		if want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'"; !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s:\n%s", want, policy)
		}
	}
	if !strings.Contains(policy, "default-src 'self'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %s", policy)
	}
}

func TestJoinURL(t *testing.T) {
	for _, c := range []struct{ base, host, want string }{
		{"", "localhost:8090", ""},
		{"rtmp://:1935", "localhost:8090", "rtmp://localhost:1935/live/movie"},
		{"rtmp://[::]:1935", "127.0.0.1:8090", "rtmp://127.0.0.1:1935/live/movie"},
		{"http://0.0.0.0:7001", "[::1]:8090", "http://[::1]:7001/live/movie"},
		{"http://0.0.0.0:7001", "[::1]", "http://[::1]:7001/live/movie"},
		{"https://10.0.0.5:7443", "localhost", "https://10.0.0.5:7443/live/movie"},
		{"https://tv.example", "localhost", "https://tv.example/live/movie"},
	} {
		if got := joinURL(c.base, c.host, "live", "movie"); got != c.want {
			t.Errorf("joinURL(%q, %q) = %q, want %q", c.base, c.host, got, c.want)
		}
	}
}

func TestFormatting(t *testing.T) {
	for d, want := range map[time.Duration]string{
		59 * time.Second: "59 s", 61 * time.Second: "1 min", 90 * time.Minute: "1 h 30 min", 50 * time.Hour: "2 d 2 h",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
	for kbps, want := range map[float64]string{0: "", 0.9: "", 64.4: "64 kbit/s", 2500: "2.5 Mbit/s"} {
		if got := formatBitrate(kbps); got != want {
			t.Errorf("rate(%v) = %q, want %q", kbps, got, want)
		}
	}
	unknown := describeTrack(&media.Track{Kind: media.Video, Label: "sorenson", Channels: 6}, stream.ConnInfo{})
	if got := strings.Join(unknown.Facts, " "); got != "sorenson 6 channels" {
		t.Errorf("an unknown codec reads %q", got)
	}
}
