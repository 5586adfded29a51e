// Package web serves the player and the pages that are built from the sources in this directory. It knows no streams.
package web

import (
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"livego/internal/ops/httpx"
)

// dist is the directory into which Vite builds, or the placeholder in it alone.
//
//go:embed all:dist
var dist embed.FS

// A file is one file that is served.
type file struct {
	content     string
	compressed  func() string // by gzip; nil if that would not help
	contentType string
	etag        string
	immutable   bool // its name changes with its content
}

// Files are the built files. They are never modified, and nil or empty Files serve nothing.
type Files struct{ byName map[string]file }

// New returns the files that were built before this program was compiled: none if Node was missing.
func New() (*Files, error) { return load(dist, "dist/files") }

func load(from fs.FS, root string) (*Files, error) {
	f := &Files{byName: map[string]file{}}
	if _, err := fs.Stat(from, root); err != nil {
		return f, nil //nolint:nilerr // not built
	}
	err := fs.WalkDir(from, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		short := strings.TrimPrefix(name, root+"/")
		f.byName[short] = file{
			content: string(content), compressed: compress(content), contentType: contentType(name),
			etag:      `"` + hex.EncodeToString(sum[:12]) + `"`,
			immutable: strings.HasPrefix(short, "chunks/"),
		}
		return nil
	})
	return f, err
}

// minCompressed is the size below which compression saves no packet, in bytes.
const minCompressed = 1 << 10

// compress returns a function that compresses content at its first call: all files take 50 ms, with which no start of
// the server waits. It returns nil for content that is too small.
func compress(content []byte) func() string {
	if len(content) < minCompressed {
		return nil
	}
	return sync.OnceValue(func() string {
		var b strings.Builder
		w := gzip.NewWriter(&b)
		_, _ = w.Write(content) // a Builder never fails
		_ = w.Close()
		return b.String()
	})
}

// contentType returns the type of a file. Those that matter do not depend on the tables of the system.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// Built reports whether the files were built: the player and the console are built together.
func (f *Files) Built() bool { return len(f.byName) > 0 }

// ServeHTTP serves /.livego/NAME to pages of every origin. The caller has set the headers of CORS.
func (f *Files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got, ok := f.byName[strings.TrimPrefix(r.URL.Path, Prefix)]
	if !ok || strings.HasPrefix(got.contentType, "text/html") { // pages have an address of their own
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	got.serve(w, r)
}

// Prefix is the start of the paths of the files. No app begins with a dot.
const Prefix = "/.livego/"

// plainPage is shown instead of the player by a server that was built without it. It needs no script.
const plainPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>livego</title>
<p>This server was built without the player. Open the address of this page with <code>.flv</code> or
<code>.m3u8</code> at its end in a player such as VLC.</p>
`

// PlayerOptions configure the player page.
type PlayerOptions struct {
	EmbedOrigins []string // pages that may embed it, as in the directive frame-ancestors; none may if it is empty
	PublicURL    string   // address of the server behind a proxy, which the Host of a request may lack; "" for none
}

// ServePlayer serves the player page to a viewer. The Host of r has been checked.
func (f *Files) ServePlayer(w http.ResponseWriter, r *http.Request, o PlayerOptions) {
	page, ok := f.byName["watch.html"]
	if !ok {
		page = file{content: plainPage, contentType: contentType("watch.html")}
	}
	h := w.Header()
	h.Set("Content-Security-Policy", playerPolicy(r.Host, o))
	h.Set("Referrer-Policy", "no-referrer")
	page.serve(w, r)
}

// ServeConsole serves the page of the console to an operator. The caller has set the Content-Security-Policy. The page
// is not cached, because its policy depends on the settings.
func (f *Files) ServeConsole(w http.ResponseWriter, r *http.Request) {
	page := f.byName["console.html"]
	page.etag = ""
	page.serve(w, r)
}

// playerPolicy returns the Content-Security-Policy of the player page. Streams are served on the port of the page.
// Older versions of Safari do not count WebSockets of the same host as 'self'.
func playerPolicy(host string, o PlayerOptions) string {
	connect := "'self'"
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		public = &url.URL{}
	}
	for _, h := range slices.Compact([]string{host, public.Host}) {
		if h != "" {
			connect += " ws://" + h + " wss://" + h
		}
	}
	embedders := strings.Join(o.EmbedOrigins, " ") // a poster may be theirs
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' " + embedders + "; " +
		"connect-src " + connect + "; media-src 'self' blob:; worker-src 'self' blob:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors " + cmp.Or(embedders, "'none'")
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-cache") // asks whether it has changed
	if f.immutable {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if f.etag != "" {
		h.Set("ETag", f.etag)
	}
	content := f.content
	if f.compressed != nil {
		h.Set("Vary", "Accept-Encoding")
		if r.Header.Get("Range") == "" && httpx.AcceptsGzip(r) {
			h.Set("Content-Encoding", "gzip")
			content = f.compressed()
			h.Set("Content-Length", strconv.Itoa(len(content)))
			h.Set("ETag", strings.TrimSuffix(f.etag, `"`)+`-gzip"`)
		}
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
}
