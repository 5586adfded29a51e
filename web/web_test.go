package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// built returns files as Vite builds them.
func built(t *testing.T) *Files {
	t.Helper()
	f, err := load(fstest.MapFS{
		"out/watch.html":         {Data: []byte("<!doctype html><script src=x></script>")},
		"out/player.js":          {Data: []byte("import './chunks/a-1.js'")},
		"out/watch.css":          {Data: []byte("body{}")},
		"out/chunks/a-1.js":      {Data: []byte("1")},
		"elsewhere/password.txt": {Data: []byte("secret")},
	}, "out")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFiles checks the type and the caching of each kind of file.
func TestFiles(t *testing.T) {
	f := built(t)
	for _, c := range []struct{ path, contentType, caching string }{
		{"/.livego/player.js", "text/javascript; charset=utf-8", "no-cache"},
		{"/.livego/watch.css", "text/css; charset=utf-8", "no-cache"},
		{"/.livego/chunks/a-1.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
	} {
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequest("GET", c.path, nil))
		h := w.Header()
		if w.Code != 200 || h.Get("Content-Type") != c.contentType || h.Get("Cache-Control") != c.caching ||
			w.Body.Len() == 0 {
			t.Errorf("%s: HTTP %d, %v", c.path, w.Code, h)
		}
		r := httptest.NewRequest("GET", c.path, nil)
		r.Header.Set("If-None-Match", h.Get("ETag"))
		again := httptest.NewRecorder()
		if f.ServeHTTP(again, r); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
			t.Errorf("%s with its ETag: HTTP %d", c.path, again.Code)
		}
	}
	for _, path := range []string{
		"/.livego/", "/.livego/nothing.js", "/.livego/watch.html", "/.livego/chunks", "/.livego/../elsewhere/password.txt",
		"/.livego/chunks/../player.js",
	} {
		w := httptest.NewRecorder()
		if f.ServeHTTP(w, httptest.NewRequest("GET", path, nil)); w.Code != http.StatusNotFound {
			t.Errorf("%s: HTTP %d", path, w.Code)
		}
	}
}

// TestServePlayer checks the page and its policy, also of a server without the player.
func TestServePlayer(t *testing.T) {
	notBuilt, err := load(fstest.MapFS{}, "out")
	if err != nil || notBuilt.Built() || !built(t).Built() {
		t.Fatalf("built is %v, %v", notBuilt.Built(), err)
	}
	for _, c := range []struct {
		files     *Files
		origins   []string
		page      string
		ancestors string
		images    string
	}{
		{built(t), []string{"*"}, "<script", "frame-ancestors *", "img-src 'self' *;"},
		{built(t), []string{"https://a.example", "https://*.b.example"}, "<script",
			"frame-ancestors https://a.example https://*.b.example", "img-src 'self' https://a.example https://*.b.example;"},
		{built(t), nil, "<script", "frame-ancestors 'none'", "img-src 'self' ;"},
		{notBuilt, nil, "without the player", "frame-ancestors 'none'", "img-src 'self' ;"},
	} {
		w := httptest.NewRecorder()
		c.files.ServePlayer(w, httptest.NewRequest("GET", "http://tv.example:7001/live/movie", nil),
			PlayerOptions{EmbedOrigins: c.origins, PublicURL: "https://live.example/tv"})
		policy := w.Header().Get("Content-Security-Policy")
		if w.Code != 200 || !strings.Contains(w.Body.String(), c.page) ||
			w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("HTTP %d, %v: %s", w.Code, w.Header(), w.Body)
		}
		if !strings.HasSuffix(policy, c.ancestors) || strings.Contains(policy, "unsafe") ||
			!strings.Contains(policy, c.images) ||
			!strings.Contains(policy,
				"connect-src 'self' ws://tv.example:7001 wss://tv.example:7001 ws://live.example wss://live.example;") {
			t.Errorf("policy %s", policy)
		}
	}
}

// TestCompression checks that large files are sent compressed to those who accept it.
func TestCompression(t *testing.T) {
	text := strings.Repeat("export const a = 1\n", 200)
	f, err := load(fstest.MapFS{"out/chunks/a-1.js": {Data: []byte(text)}}, "out")
	if err != nil {
		t.Fatal(err)
	}
	for accepted, compressed := range map[string]bool{
		"gzip, deflate, br": true, "br, gzip;q=0.5": true, "": false, "br": false, "gzip;q=0": false, "gzip;q=0.000": false,
	} {
		r := httptest.NewRequest("GET", "/.livego/chunks/a-1.js", nil)
		r.Header.Set("Accept-Encoding", accepted)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != compressed || w.Header().Get("Vary") == "" {
			t.Errorf("%q: %v", accepted, w.Header())
		}
		body := io.Reader(w.Body)
		if compressed {
			if w.Body.Len() > len(text)/4 {
				t.Errorf("%d bytes of %d", w.Body.Len(), len(text))
			}
			if body, err = gzip.NewReader(w.Body); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := io.ReadAll(body); err != nil || string(got) != text {
			t.Errorf("%q: %d bytes, %v", accepted, len(got), err)
		}
	}
}

// TestSizeBudget checks what a browser loads for each page before a library that it needs later.
func TestSizeBudget(t *testing.T) {
	const budget = 60_000 // bytes, compressed
	f, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if !f.Built() {
		t.Skip("the player was not built")
	}
	pages := map[string][]string{"the player page": {"watch.js", "watch.css"}}
	for _, name := range f.imports("console.js", dynamicImport) {
		pages[name] = []string{"console.js", "console.css", name}
	}
	if len(pages) < 2 {
		t.Error("the console has no pages")
	}
	for page, names := range pages {
		loaded := map[string]bool{}
		for _, name := range names {
			f.addImports(loaded, name)
		}
		size := 0
		for name := range loaded {
			one := f.byName[name]
			if one.compressed == nil {
				size += len(one.content)
			} else {
				size += len(one.compressed())
			}
		}
		if size > budget || size < 1000 {
			t.Errorf("%s: %d bytes, at most %d", page, size, budget)
		}
		t.Logf("%s: %d bytes", page, size)
	}
}

// Imports of a module as Vite writes them, by names relative to it.
var (
	staticImport  = regexp.MustCompile("(?:from|import)[\"'`](\\.{1,2}/[^\"'`]+)")
	dynamicImport = regexp.MustCompile("import\\([\"'`](\\.{1,2}/[^\"'`]+)")
)

func (f *Files) imports(name string, kind *regexp.Regexp) (names []string) {
	for _, m := range kind.FindAllStringSubmatch(f.byName[name].content, -1) {
		names = append(names, path.Join(path.Dir(name), m[1]))
	}
	return names
}

// addImports adds a file and all that it imports statically.
func (f *Files) addImports(loaded map[string]bool, name string) {
	if _, ok := f.byName[name]; !ok || loaded[name] {
		return
	}
	loaded[name] = true
	for _, n := range f.imports(name, staticImport) {
		f.addImports(loaded, n)
	}
}
