package api

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuiltinStatics(t *testing.T) {
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "absent")} {
		s := newFixture(t, func(o *Options) { o.StaticsDir = dir })
		w := s.get("/statics/")
		wantStatus(t, w, 200)
		if !strings.Contains(w.Body.String(), "<title>livego</title>") {
			t.Errorf("body %.100s", w.Body)
		}
		w = s.get("/statics/livego.svg")
		wantStatus(t, w, 200)
		if got := w.Header().Get("Content-Type"); got != "image/svg+xml" {
			t.Errorf("Content-Type %q", got)
		}
		wantStatus(t, s.get("/statics/nothing"), 404)
	}
}

func TestStatics(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "statics")
	for path, text := range map[string]string{
		filepath.Join(outside, "secret"):            "secret",
		filepath.Join(dir, "player.html"):           "<p>player",
		filepath.Join(dir, "sub", "index.html"):     "<p>sub",
		filepath.Join(dir, "empty", "a.txt"):        "a",
		filepath.Join(dir, ".hidden"):               "secret",
		filepath.Join(dir, ".git", "config"):        "secret",
		filepath.Join(dir, "sub", ".well", "known"): "secret",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"out": "../secret", "etc": "/etc"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	s := newFixture(t, func(o *Options) { o.StaticsDir = dir })
	for _, c := range []struct {
		name, target string
		want         int
		body         string
	}{
		{"file", "/statics/player.html", 200, "<p>player"},
		{"index of a directory", "/statics/sub/", 200, "<p>sub"},
		{"index by name", "/statics/sub/index.html", 200, "<p>sub"},
		{"no listing", "/statics/empty/", 404, ""},
		{"no index at the top", "/statics/", 404, ""},
		{"directory", "/statics/empty", 404, ""},
		{"not mixed with the built-in", "/statics/livego.svg", 404, ""},
		{"hidden", "/statics/.hidden", 404, ""},
		{"hidden directory", "/statics/.git/config", 404, ""},
		{"hidden below", "/statics/sub/.well/known", 404, ""},
		{"parent", "/statics/../secret", 404, ""},
		{"encoded parent", "/statics/%2e%2e%2fsecret", 404, ""},
		{"encoded twice", "/statics/%252e%252e%252fsecret", 404, ""},
		{"backslash", "/statics/..%5csecret", 404, ""},
		{"absolute", "/statics/%2fetc%2fpasswd", 404, ""},
		{"NUL", "/statics/player.html%00", 404, ""},
		{"long", "/statics/" + strings.Repeat("a", 4000), 404, ""},
		{"link to a file outside", "/statics/out", 404, ""},
		{"link to a directory outside", "/statics/etc/passwd", 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := s.get(c.target)
			wantStatus(t, w, c.want)
			if c.body != "" && w.Body.String() != c.body {
				t.Errorf("body %q, want %q", w.Body, c.body)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("body %q", w.Body)
			}
		})
	}
}

// TestStaticRanges checks range requests (RFC 9110 section 14).
func TestStaticRanges(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.bin"), []byte(strings.Repeat("0123456789", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newFixture(t, func(o *Options) { o.StaticsDir = dir })
	for ranges, want := range map[string]int{
		"bytes=0-": 206, "bytes=-1": 206, "bytes=5-1": 416, "bytes=10000-": 416, "bytes=0-0,2-2": 206,
		"bytes=0-0" + strings.Repeat(",2-2", 1000): 200,
	} {
		if w := s.get("/statics/a.bin", "Range: "+ranges); w.Code != want {
			t.Errorf("%.40s: status %d, want %d", ranges, w.Code, want)
		}
	}
	wantStatus(t, s.do("HEAD", "/statics/a.bin", ""), 200)
	wantStatus(t, s.do("POST", "/statics/a.bin", ""), 405)
}
