package api

import (
	"embed"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
)

//go:embed static
var builtin embed.FS

// staticPolicy is the Content-Security-Policy of the operator's own files. What their pages load is
// their affair: a player that fetches from the viewers' ports must work. They are of another origin
// than the API, so that a script in them, and all that it loads from elsewhere, cannot use it as
// the operator. Every other freedom of a page is theirs. Nobody else may frame them.
const staticPolicy = "sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads allow-presentation " +
	"allow-pointer-lock allow-orientation-lock; base-uri 'self'; frame-ancestors 'none'"

// maxRanges is how many ranges of a file one request may ask for; one that asks for more gets all
// of it (RFC 9110 §14.2).
const maxRanges = 8

// serveStatic serves the files of /statics/: those of StaticsDir where it exists, else the
// binary's. There are no listings, and no file whose name or directory begins with a dot. Links
// that lead out of the directory are not followed.
func (s *server) serveStatic(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/statics/")
	if name == "" || strings.HasSuffix(name, "/") {
		name += "index.html"
	}
	f, info, err := s.openStatic(name)
	if err != nil {
		writeText(w, http.StatusNotFound, "no such file")
		return
	}
	defer f.Close()
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		r.Header.Del("Range")
	}
	w.Header().Set("Content-Security-Policy", staticPolicy)
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, path.Base(name), info.ModTime(), f)
}

func (s *server) openStatic(name string) (io.ReadSeekCloser, fs.FileInfo, error) {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") {
			return nil, nil, fs.ErrNotExist
		}
	}
	root, err := os.OpenRoot(s.StaticsDir)
	if err != nil {
		return openRegular(builtin, "static/"+name)
	}
	defer func() { _ = root.Close() }() // an open file outlives it
	return openRegular(root.FS(), name)
}

// openRegular looks before it opens: to open a named pipe would wait for who writes to it.
func openRegular(fsys fs.FS, name string) (io.ReadSeekCloser, fs.FileInfo, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fs.ErrNotExist
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, err
	}
	// Files of a directory and of an embed.FS can seek.
	return f.(io.ReadSeekCloser), info, nil
}
