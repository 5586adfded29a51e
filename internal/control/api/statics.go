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

// staticPolicy is the Content-Security-Policy of the operator's own files. They may load whatever
// they need: a player must be able to fetch from the viewers' ports. The sandbox gives them another
// origin than the API, so that their scripts, and scripts from elsewhere that they load, cannot use
// it as the operator. No other site may frame them.
const staticPolicy = "sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads allow-presentation " +
	"allow-pointer-lock allow-orientation-lock; base-uri 'self'; frame-ancestors 'none'"

// maxRanges is how many ranges a request may ask for; a request with more gets the whole file (RFC
// 9110 section 14.2).
const maxRanges = 8

// serveStatic serves the files of /statics/, from StaticsDir if it exists, else from the binary.
// There are no directory listings, hidden files and directories are not served, and links out of
// the directory are not followed.
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
	defer func() { _ = root.Close() }() // an open file stays usable
	return openRegular(root.FS(), name)
}

// openRegular opens a regular file. It checks the type first, because opening a named pipe would
// block until a writer opens it.
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
	// Files of os.Root.FS and embed.FS implement io.Seeker.
	return f.(io.ReadSeekCloser), info, nil
}
