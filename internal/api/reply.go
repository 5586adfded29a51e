package api

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"livego/internal/live"
	"livego/internal/netx"
)

// A refusal is an error that no live.Kind has a status for.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

var (
	errNoRoute  = &refusal{http.StatusNotFound, "no such route"}
	errMethod   = &refusal{http.StatusMethodNotAllowed, "this method has no meaning here"}
	errLongURL  = &refusal{http.StatusRequestURITooLong, "the URL is longer than 4 KiB"}
	errLongBody = &refusal{http.StatusRequestEntityTooLarge, "the body is larger than 64 KiB"}
	errCoded    = &refusal{http.StatusUnsupportedMediaType, "the body must not be compressed (Content-Encoding)"}
)

// statusOf is the one table from an error to an HTTP status.
func statusOf(err error) int {
	var ref *refusal
	if errors.As(err, &ref) {
		return ref.status
	}
	return netx.HTTPStatus(err)
}

// textOf returns what the client is told of err.
func textOf(err error) string {
	var ref *refusal
	if errors.As(err, &ref) {
		return ref.text
	}
	return live.Reason(err)
}

// fail answers with err: in the envelope, as a problem below /api/v1, or as text where people and their browsers look.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if strings.HasPrefix(r.URL.Path, v1) {
		problem(w, err)
		return
	}
	if forPeople(r.URL.Path) {
		plain(w, statusOf(err), textOf(err))
		return
	}
	reply(w, statusOf(err), textOf(err))
}

func forPeople(path string) bool {
	return path == "/" || path == "/healthz" || path == "/readyz" || path == "/login" || path == "/logout" ||
		strings.HasPrefix(path, "/statics/") || strings.HasPrefix(path, "/debug/")
}

// reply writes the envelope that every answer of /control and /stat comes in.
func reply(w http.ResponseWriter, status int, data any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	writeJSON(w, struct {
		Status int `json:"status"`
		Data   any `json:"data"`
	}{status, data})
}

// writeJSON writes data in a line. Scripts read < and > as they are. No browser executes them: every answer names its type and forbids
// to guess another (harden).
func writeJSON(w io.Writer, data any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(data) // data is always of ours, and plain; a client that hangs up misses it
}

// A streamed is data of an envelope that writes itself as JSON, piece by piece.
type streamed func(io.Writer) error

// replyStreamed writes the envelope around data as it comes. An error means that the client has left: there is nobody to tell.
func replyStreamed(w http.ResponseWriter, data streamed) {
	w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriterSize(w, replyBuffer)
	_, _ = b.WriteString(`{"status":200,"data":`) // its error comes again at the next write
	if data(b) == nil {
		_, _ = b.WriteString("}\n")
		_ = b.Flush()
	}
}

// replyBuffer is how many bytes of a streamed answer are written at once.
const replyBuffer = 32 << 10

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}
