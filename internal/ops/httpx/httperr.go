package httpx

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"livego/internal/domain"
)

// Status returns the HTTP status for the kind of err.
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

// CodeHeader is the header with the domain.Code of a refusal.
const CodeHeader = "Livego-Error"

// WriteError responds with err: the status for its kind, its code in CodeHeader, and its reason as
// plain text. A missing or invalid token also gets the challenge of RFC 6750 section 3.
func WriteError(w http.ResponseWriter, err error) {
	w.Header().Del("Content-Type") // of the response that failed
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

// challengeText returns s without characters that an error_description may not contain (RFC 6750
// section 3).
func challengeText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}

// Token returns the token of a viewer: the query parameter token, or Authorization: Bearer. Two
// different tokens are an Error of kind Invalid.
func Token(r *http.Request) (string, error) {
	token, several := Credential(r, "token")
	if several {
		return "", domain.Errorf(domain.Invalid, "invalid request: two different tokens")
	}
	return token, nil
}

// Credential returns the credential of r, "" for none: the query parameter, or Authorization: Bearer.
// several reports whether there are two different ones.
func Credential(r *http.Request, parameter string) (credential string, several bool) {
	all := r.URL.Query()[parameter]
	for _, h := range r.Header.Values("Authorization") {
		if scheme, token, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
			all = append(all, strings.TrimSpace(token))
		}
	}
	if all = slices.Compact(all); len(all) == 0 {
		return "", false
	}
	return all[0], len(all) > 1
}
