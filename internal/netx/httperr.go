package netx

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"livego/internal/live"
)

// HTTPStatus returns the status that tells a client of err's kind.
func HTTPStatus(err error) int {
	switch live.KindOf(err) {
	case live.Invalid:
		return http.StatusBadRequest
	case live.Denied:
		if errors.Is(err, live.ErrCredential) {
			return http.StatusUnauthorized
		}
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
	status := HTTPStatus(err)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	http.Error(w, live.Reason(err), status)
}

// Token returns the token that a viewer shows: token in the query, or Authorization: Bearer. Two that differ are an Error of kind
// Invalid.
func Token(r *http.Request) (string, error) {
	all := r.URL.Query()["token"]
	for _, h := range r.Header.Values("Authorization") {
		if scheme, token, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
			all = append(all, strings.TrimSpace(token))
		}
	}
	if all = slices.Compact(all); len(all) > 1 {
		return "", live.Errorf(live.Invalid, "the request carries two different tokens")
	}
	if len(all) == 0 {
		return "", nil
	}
	return all[0], nil
}
