package httpx

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"livego/internal/domain"
)

// Status returns the status that tells a client of err's kind.
func Status(err error) int {
	switch domain.KindOf(err) {
	case domain.Invalid:
		return http.StatusBadRequest
	case domain.Denied:
		if errors.Is(err, domain.ErrUnauthenticated) {
			return http.StatusUnauthorized
		}
		return http.StatusForbidden
	case domain.NotFound:
		return http.StatusNotFound
	case domain.Conflict:
		return http.StatusConflict
	case domain.Limit:
		return http.StatusTooManyRequests
	case domain.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// CodeHeader is the header that has the domain.Code of a refusal.
const CodeHeader = "Livego-Error"

// WriteError answers a viewer whose request came to nothing: the status of err's kind, its code in
// CodeHeader, and its reason as plain text. A bad token is also told in the words of RFC 6750
// section 3.
func WriteError(w http.ResponseWriter, err error) {
	w.Header().Del("Content-Type") // of what would have been
	w.Header().Set("Cache-Control", "no-store")
	status, code := Status(err), domain.CodeOf(err)
	if code != "" {
		w.Header().Set(CodeHeader, string(code))
	}
	if status == http.StatusUnauthorized {
		challenge := "Bearer"
		if code != "" && code != domain.TokenMissing {
			challenge += ` error="invalid_token", error_description="` + challengeText(domain.Reason(err)) + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	http.Error(w, domain.Reason(err), status)
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

// Token returns the token that a viewer shows: token in the query, or Authorization: Bearer. Two
// that differ are an Error of kind Invalid.
func Token(r *http.Request) (string, error) {
	all := r.URL.Query()["token"]
	for _, h := range r.Header.Values("Authorization") {
		if scheme, token, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
			all = append(all, strings.TrimSpace(token))
		}
	}
	if all = slices.Compact(all); len(all) > 1 {
		return "", domain.Errorf(domain.Invalid, "the request carries two different tokens")
	}
	if len(all) == 0 {
		return "", nil
	}
	return all[0], nil
}
