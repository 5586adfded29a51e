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

// An httpError is an error whose HTTP status no domain.Kind stands for.
type httpError struct {
	status  int
	message string
}

func (e *httpError) Error() string { return e.message }

var (
	errNoRoute    = &httpError{http.StatusNotFound, "no such route"}
	errMethod     = &httpError{http.StatusMethodNotAllowed, "method not allowed"}
	errRange      = &httpError{http.StatusRequestedRangeNotSatisfiable, "the range is outside of the file"}
	errLongURL    = &httpError{http.StatusRequestURITooLong, "the URL is longer than 4 KiB"}
	errLongBody   = &httpError{http.StatusRequestEntityTooLarge, "the body is larger than 64 KiB"}
	errCompressed = &httpError{http.StatusUnsupportedMediaType, "the body must not be compressed (Content-Encoding)"}
)

// statusOf returns the HTTP status of an error: the one table for it.
func statusOf(err error) int {
	var ref *httpError
	if errors.As(err, &ref) {
		return ref.status
	}
	return httpx.Status(err)
}

// clientMessage returns the text of err for the client.
func clientMessage(err error) string {
	var ref *httpError
	if errors.As(err, &ref) {
		return ref.message
	}
	return domain.Reason(err)
}

// writeError writes err in the envelope, as problem details below /api/v1, or as text for routes
// that browsers open.
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
	return path == "/" || path == "/healthz" || path == "/readyz" || path == "/metrics" || path == "/login" ||
		path == "/logout" || strings.HasPrefix(path, "/statics/") || strings.HasPrefix(path, "/debug/")
}

// writeEnvelope writes the JSON envelope of /control and /stat.
func writeEnvelope(w http.ResponseWriter, status int, data any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	writeJSON(w, struct {
		Status int `json:"status"`
		Data   any `json:"data"`
	}{status, data})
}

// writeJSON writes data as one line of JSON. It does not escape < and >, for scripts that compare
// text. Browsers do not execute the response, because it has a content type and nosniff
// (setSecurityHeaders).
func writeJSON(w io.Writer, data any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(data) // data can always be encoded; a disconnected client needs no error
}

// streamedJSON writes the data of an envelope as JSON, piece by piece.
type streamedJSON func(io.Writer) error

// streamEnvelope writes the envelope around data as it is produced. An error of data means that the
// client has disconnected, and is dropped.
func streamEnvelope(w http.ResponseWriter, data streamedJSON) {
	w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriterSize(w, streamBufferSize)
	_, _ = b.WriteString(`{"status":200,"data":`) // the next write returns the error again
	if data(b) == nil {
		_, _ = b.WriteString("}\n")
		_ = b.Flush()
	}
}

// streamBufferSize is the size of the writes of a streamed response, in bytes.
const streamBufferSize = 32 << 10

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}
