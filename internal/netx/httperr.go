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

// CodeHeader is the header that has the live.Code of a refusal.
const CodeHeader = "Livego-Error"

// WriteError answers a viewer whose request came to nothing: the status of err's kind, its code in CodeHeader, and its reason as plain
// text. A bad token is also told in the words of RFC 6750 section 3.
func WriteError(w http.ResponseWriter, err error) {
	w.Header().Del("Content-Type") // of what would have been
	w.Header().Set("Cache-Control", "no-store")
	status, code := HTTPStatus(err), live.CodeOf(err)
	if code != "" {
		w.Header().Set(CodeHeader, string(code))
	}
	if status == http.StatusUnauthorized {
		challenge := "Bearer"
		if code != "" && code != live.TokenMissing {
			challenge += ` error="invalid_token", error_description="` + challengeText(live.Reason(err)) + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	http.Error(w, live.Reason(err), status)
}

// challengeText returns s without what an error_description may not hold (RFC 6750 section 3).
func challengeText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
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
