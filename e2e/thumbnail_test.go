package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
)

// A halves is a video whose left half is red and whose right half is blue.
type halves struct {
	room, size    string // of the coded pictures
	width, height int    // of the thumbnail
	args          string // of ffmpeg, with the codec
}

// file returns the path of the video as Matroska, of one second.
func (h halves) file(t *testing.T, left, right string) string {
	t.Helper()
	w, height, _ := strings.Cut(h.size, "x")
	path := filepath.Join(t.TempDir(), h.room+".mkv")
	harness.FFmpeg(t, append(strings.Fields(fmt.Sprintf("-f lavfi -i color=%s:s=%s:r=5 -vf "+
		"drawbox=x=iw/2:w=iw/2:h=ih:color=%s:t=fill,scale=out_color_matrix=bt709:out_range=tv,"+
		"setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709 -t 1 -g 5 %s", left, w+"x"+height, right, h.args)),
		path)...).WaitOK(patience)
	return path
}

// thumbnail requests url, and returns the response with its body.
func thumbnail(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 2 * patience}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// decodeThumbnail decodes a picture.
func decodeThumbnail(t *testing.T, data []byte) image.Image {
	t.Helper()
	m, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v: %.100q", err, data)
	}
	return m
}

// isColor reports whether the color of m at x, in percent of its width, is near c.
func isColor(m image.Image, x int, c color.RGBA) bool {
	b := m.Bounds()
	got, _ := color.RGBAModel.Convert(m.At(b.Min.X+b.Dx()*x/100, b.Min.Y+b.Dy()/2)).(color.RGBA)
	near := func(a, b uint8) bool { return max(a, b)-min(a, b) <= 12 }
	return near(got.R, c.R) && near(got.G, c.G) && near(got.B, c.B)
}

var (
	red   = color.RGBA{R: 255, A: 255}
	blue  = color.RGBA{B: 255, A: 255}
	white = color.RGBA{R: 255, G: 255, B: 255, A: 255}
)

// TestThumbnails publishes known pictures in each codec: their thumbnails have the right size and colors,
// also after the encoder was lost.
func TestThumbnails(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{
		Flags: []string{"--publish_hold_clean=2m", "--thumbnail_interval=1s", "--thumbnail_timeout=1m",
			"--private=live/av1"},
		Env: []string{"LIVEGO_TOKEN_SECRET=" + tokenSecret},
	})
	const x265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:pools=1 "
	all := []halves{
		{"h264", "1280x720", 480, 270, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"},
		{"small", "160x90", 160, 90, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"},
		{"tall", "720x1280", 480, 852, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"},
		{"anamorphic", "720x576", 480, 270, "-aspect 16:9 -c:v libx264 -preset ultrafast -pix_fmt yuv420p"},
		{"hevc", "640x360", 480, 270, x265 + "-pix_fmt yuv420p"},
		{"hevc10", "640x360", 480, 270, x265 + "-pix_fmt yuv420p10le"},
		{"av1", "640x360", 480, 270, "-c:v libaom-av1 -cpu-used 8 -usage realtime -pix_fmt yuv420p"},
		{"vp9", "640x360", 480, 270, "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime -pix_fmt yuv420p"},
	}
	token := makeToken(t, "play", "live/av1")
	for _, h := range all {
		t.Run(h.room, func(t *testing.T) {
			t.Parallel()
			s := s.WithT(t)
			push(t, s, h.file(t, "red", "blue"), h.room).WaitOK(patience)
			url := s.Thumbnail(h.room)
			if h.room == "av1" {
				if resp, _ := thumbnail(t, url); resp.StatusCode != 401 {
					t.Errorf("private, without a token: HTTP %d", resp.StatusCode)
				}
				url += "?token=" + token
			}
			resp, body := thumbnail(t, url)
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "image/jpeg" ||
				resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("ETag") == "" {
				t.Fatalf("HTTP %d %v: %.100q", resp.StatusCode, resp.Header, body)
			}
			m := decodeThumbnail(t, body)
			if size := m.Bounds().Size(); size.X != h.width || size.Y != h.height {
				t.Errorf("%v, want %dx%d", size, h.width, h.height)
			}
			for x := 5; x < 100; x += 10 {
				if want := map[bool]color.RGBA{true: red, false: blue}[x < 50]; !isColor(m, x, want) {
					t.Errorf("at %d%% of the width: %v, want %v", x, m.At(m.Bounds().Dx()*x/100, m.Bounds().Dy()/2), want)
				}
			}
		})
	}
}

// TestThumbnailChanges plays two pictures one after the other, while 30 viewers request the thumbnail
// again and again: each picture is rendered once for all.
func TestThumbnailChanges(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{
		Flags: []string{"--publish_hold_clean=2m", "--thumbnail_interval=1s", "--thumbnail_timeout=1m"},
	})
	h := halves{room: "movie", size: "320x180", args: "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"}
	url := s.Thumbnail("movie")
	if resp, body := thumbnail(t, url); resp.StatusCode != 404 || !strings.Contains(string(body), "nobody is publishing") {
		t.Errorf("no stream: HTTP %d: %s", resp.StatusCode, body)
	}
	push(t, s, h.file(t, "red", "blue"), "movie").WaitOK(patience)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if resp, _ := thumbnail(t, url); resp.StatusCode != 200 {
				t.Errorf("HTTP %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	if n := rendered(t, s); n != "1" {
		t.Errorf("30 requests have caused %s renderings", n)
	}
	push(t, s, h.file(t, "white", "white"), "movie").WaitOK(patience)
	harness.Eventually(t, patience, "the new picture", func() error {
		if _, body := thumbnail(t, url); !isColor(decodeThumbnail(t, body), 25, white) {
			return fmt.Errorf("the old picture")
		}
		return nil
	})
	if n := rendered(t, s); n != "2" && n != "3" { // perhaps one while the first picture was still the newest
		t.Errorf("%s renderings", n)
	}
}

// rendered returns how many thumbnails s has rendered.
func rendered(t *testing.T, s *harness.Server) string {
	_, after, _ := strings.Cut(string(harness.Get(t, s.API("/metrics"))), "\nlivego_thumbnail_duration_seconds_count ")
	n, _, _ := strings.Cut(after, "\n")
	return n
}

// TestThumbnailsOfHostileStreams has a damaged stream whose thumbnail ffmpeg cannot render, or renders
// forever: the request gets a reason, one line is logged, and the process does not outlive the server.
func TestThumbnailsOfHostileStreams(t *testing.T) {
	harness.Need(t, "ffmpeg", "bash")
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "ffmpeg")
	if err := os.WriteFile(script, []byte("#!/bin/bash\nexec -a "+dir+"/busy sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{Flags: []string{
		"--publish_hold_clean=2m", "--thumbnail_timeout=2s", "--ffmpeg=" + script}})
	h := halves{room: "movie", size: "320x180", args: "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"}
	push(t, s, h.file(t, "red", "blue"), "movie").WaitOK(patience)
	url := s.Thumbnail("movie")
	for range 2 {
		resp, body := thumbnail(t, url)
		if resp.StatusCode != 404 || !strings.Contains(string(body), "could not be decoded") {
			t.Errorf("HTTP %d: %s", resp.StatusCode, body)
		}
	}
	s.AwaitLog(patience, "thumbnail failed")
	if n := strings.Count(s.Stderr(), "thumbnail failed"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, s.Stderr())
	}
	push(t, s, h.file(t, "white", "white"), "other").WaitOK(patience)
	go func() { _, _ = harness.Client().Get(s.Thumbnail("other")) }()
	running := func() bool {
		out, _ := exec.Command("pgrep", "-f", dir+"/busy").Output()
		return len(out) > 0
	}
	harness.Eventually(t, patience, "the process", func() error {
		if !running() {
			return fmt.Errorf("not running")
		}
		return nil
	})
	s.Kill()
	harness.Eventually(t, 5*time.Second, "the end of the process", func() error {
		if running() {
			return fmt.Errorf("it runs without the server")
		}
		return nil
	})
}

// TestNoFFmpeg runs a server without ffmpeg: it says so once, and each request for a thumbnail gets the
// reason.
func TestNoFFmpeg(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Env: []string{"PATH=" + t.TempDir()}})
	resp, body := thumbnail(t, s.Thumbnail("movie"))
	if resp.StatusCode != 404 || !strings.Contains(string(body), "ffmpeg is not installed") {
		t.Errorf("HTTP %d: %s", resp.StatusCode, body)
	}
	s.AwaitLog(patience, "thumbnails are off")
	if n := strings.Count(s.Stderr(), "thumbnails are off"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, s.Stderr())
	}
}
