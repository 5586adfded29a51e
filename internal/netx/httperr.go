package netx

import (
	"net/http"

	"livego/internal/live"
)

// HTTPStatus returns the status that tells a client of err's kind.
func HTTPStatus(err error) int {
	switch live.KindOf(err) {
	case live.Invalid:
		return http.StatusBadRequest
	case live.Denied:
		return http.StatusForbidden
	case live.NotFound:
		return http.StatusNotFound
	case live.Conflict:
		return http.StatusConflict
	case live.Limit:
		return http.StatusTooManyRequests
	case live.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// WriteError answers a viewer whose request came to nothing: the status of err's kind and its reason as plain text.
func WriteError(w http.ResponseWriter, err error) {
	w.Header().Del("Content-Type") // of what would have been
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, live.Reason(err), HTTPStatus(err))
}
