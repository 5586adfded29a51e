package api

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"livego/internal/domain"
	"livego/internal/ops/httpx"
)

// A httpError is an error that no domain.Kind has a status for.
type httpError struct {
	status  int
	message string
}

func (e *httpError) Error() string { return e.message }

var (
	errNoRoute    = &httpError{http.StatusNotFound, "no such route"}
	errMethod     = &httpError{http.StatusMethodNotAllowed, "this method has no meaning here"}
	errLongURL    = &httpError{http.StatusRequestURITooLong, "the URL is longer than 4 KiB"}
	errLongBody   = &httpError{http.StatusRequestEntityTooLarge, "the body is larger than 64 KiB"}
	errCompressed = &httpError{http.StatusUnsupportedMediaType, "the body must not be compressed (Content-Encoding)"}
)

// statusOf is the one table from an error to an HTTP status.
func statusOf(err error) int {
	var ref *httpError
	if errors.As(err, &ref) {
		return ref.status
	}
	return httpx.Status(err)
}

// clientMessage returns what the client is told of err.
func clientMessage(err error) string {
	var ref *httpError
	if errors.As(err, &ref) {
		return ref.message
	}
	return domain.Reason(err)
}

// writeError answers with err: in the envelope, as a problem below /api/v1, or as text where people
// and their browsers look.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	if strings.HasPrefix(r.URL.Path, v1) {
		writeProblem(w, err)
		return
	}
	if isTextRoute(r.URL.Path) {
		writeText(w, statusOf(err), clientMessage(err))
		return
	}
	writeEnvelope(w, statusOf(err), clientMessage(err))
}

func isTextRoute(path string) bool {
	return path == "/" || path == "/healthz" || path == "/readyz" || path == "/login" || path == "/logout" ||
		strings.HasPrefix(path, "/statics/") || strings.HasPrefix(path, "/debug/")
}

// writeEnvelope writes the envelope that every answer of /control and /stat comes in.
func writeEnvelope(w http.ResponseWriter, status int, data any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	writeJSON(w, struct {
		Status int `json:"status"`
		Data   any `json:"data"`
	}{status, data})
}

// writeJSON writes data in a line. Scripts read < and > as they are. No browser executes them:
// every answer names its type and forbids to guess another (harden).
func writeJSON(w io.Writer, data any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(data) // data is always of ours, and plain; a client that hangs up misses it
}

// A streamedJSON is data of an envelope that writes itself as JSON, piece by piece.
type streamedJSON func(io.Writer) error

// streamEnvelope writes the envelope around data as it comes. An error means that the client has
// left: there is nobody to tell.
func streamEnvelope(w http.ResponseWriter, data streamedJSON) {
	w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriterSize(w, streamBufferSize)
	_, _ = b.WriteString(`{"status":200,"data":`) // its error comes again at the next write
	if data(b) == nil {
		_, _ = b.WriteString("}\n")
		_ = b.Flush()
	}
}

// streamBufferSize is how many bytes of a streamed answer are written at once.
const streamBufferSize = 32 << 10

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}
