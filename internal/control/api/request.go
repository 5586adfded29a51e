package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// Limits of a request.
const (
	maxURL  = 4 << 10  // bytes of the request target
	maxBody = 64 << 10 // bytes
	// maxDiscard is how much of an oversized body is read and dropped: a client that is still
	// sending when the connection closes may not receive the response.
	maxDiscard = 2 << 20
)

// policy is the Content-Security-Policy of responses that do not set their own.
const policy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// setSecurityHeaders sets the headers of every response. It sets no CORS headers: no other origin
// may use the API. Sandboxed static files, whose origin is null, are the exception (authorize).
func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// requiredAccess returns what access a request needs: the one table for it. Requests that it does
// not list need the role read.
func requiredAccess(r *http.Request) auth.Access {
	is := func(prefix string) bool { return strings.HasPrefix(r.URL.Path, prefix) }
	switch {
	case is(keysPath + "/export"), is(keysPath + "/import"):
		return auth.Access{Rights: auth.Admin, Credential: true} // all secrets at once
	case is("/debug/"):
		return auth.Access{Rights: auth.Admin, Safe: true}
	case is(settingsPath): // they show how the server is protected
		return auth.Access{Rights: auth.Operate, Safe: true}
	case is("/control/"), is(v1) && r.Method != http.MethodGet && r.Method != http.MethodHead:
		return auth.Access{Rights: auth.Operate}
	}
	return auth.Access{
		Rights:         auth.Read,
		CrossSiteLink:  r.URL.Path == "/" || is("/statics/"),
		CrossSiteEmbed: is("/statics/") || r.URL.Path == "/favicon.ico",
		Monitoring:     r.URL.Path == "/metrics",
	}
}

// loggablePath returns the path of a refused request if it is a known route, else "": an unknown
// path may contain a secret.
func loggablePath(path string) string {
	for _, p := range []string{
		"/control/get", "/control/reset", "/control/delete", "/control/push", "/control/pull", "/stat/livestat", "/statics/",
		"/debug/", "/metrics",
		"/login", "/logout", v1, "/",
	} {
		if path == p || strings.HasSuffix(p, "/") && p != "/" && strings.HasPrefix(path, p) || p == v1 &&
			strings.HasPrefix(path, v1) {
			return p
		}
	}
	return ""
}

// authorize checks that the client may make the request, and that its path and body are acceptable.
// Authorization comes first, so that other errors reveal nothing to unauthorized clients.
func (s *server) authorize(w http.ResponseWriter, r *http.Request) error {
	need := requiredAccess(r)
	if err := s.Auth().Authorize(s.withoutReplacement(r), need); err != nil {
		s.logRefusal(r, err)
		return err
	}
	// as for sandboxed static files
	if need.CrossSiteEmbed && r.Header.Get("Origin") == "null" {
		w.Header().Set("Access-Control-Allow-Origin", "null")
		w.Header().Set("Vary", "Origin")
	}
	// The mux would redirect to the clean path; only attackers and broken clients request an
	// unclean one.
	if p := r.URL.Path; p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") {
		return errNoRoute
	}
	return limitBody(w, r)
}

// withoutReplacement returns r without the JWT in the address of the console, if the browser has logged in before: the
// console exchanges the JWT for a session that replaces this one. Two credentials would be refused.
func (s *server) withoutReplacement(r *http.Request) *http.Request {
	if r.URL.Path != "/" || s.Console == nil {
		return r
	}
	if _, loggedIn := s.Auth().Session(r); !loggedIn {
		return r
	}
	query := r.URL.Query()
	query.Del("jwt")
	r = r.Clone(r.Context())
	r.URL.RawQuery = query.Encode()
	return r
}

// limitBody refuses bodies that are compressed or too long, and limits how much of the others is
// read.
func limitBody(w http.ResponseWriter, r *http.Request) error {
	if c := r.Header.Get("Content-Encoding"); c != "" && c != "identity" {
		return errCompressed
	}
	if r.ContentLength > maxBody {
		_, _ = io.CopyN(io.Discard, r.Body, maxDiscard)
		return errLongBody
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return nil
}

// logRefusal adds a refused request to the events and to the log.
func (s *server) logRefusal(r *http.Request, err error) {
	path, reason := loggablePath(r.URL.Path), domain.Reason(err)
	s.Events.Add(domain.Event{Type: domain.EventDenied, Action: "manage", Path: path, Proto: "http", Remote: r.RemoteAddr,
		Reason: reason})
	if suppressed, ok := s.refusalLimiter.Allow(domain.KindOf(err).String()); ok {
		s.Log.Warn("request refused", "path", path, "remote", r.RemoteAddr, "reason", reason, "suppressed", suppressed)
	}
}

// enveloped serves a documented route. Scripts use GET and POST, and some DELETE. The other methods
// are refused: HEAD and OPTIONS must have no effect, and these routes do not implement PUT, PATCH
// and TRACE.
func (s *server) enveloped(h func(*http.Request, url.Values) (any, error)) http.Handler {
	return allowMethods(func(w http.ResponseWriter, r *http.Request) {
		args, err := arguments(r)
		if err != nil {
			writeError(w, r, err)
			return
		}
		data, err := h(r, args)
		if err != nil {
			writeError(w, r, err)
			return
		}
		if s, ok := data.(streamedJSON); ok {
			streamEnvelope(w, s)
			return
		}
		writeEnvelope(w, http.StatusOK, data)
	}, http.MethodGet, http.MethodPost, http.MethodDelete)
}

func readOnly(h http.HandlerFunc) http.Handler {
	return allowMethods(h, http.MethodGet, http.MethodHead)
}

// allowMethods refuses requests by other methods.
func allowMethods(h http.HandlerFunc, methods ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			writeError(w, r, errMethod)
			return
		}
		h(w, r)
	})
}

// arguments returns the arguments in the query and the form body of r, for every method. An
// argument in both counts as given twice.
func arguments(r *http.Request) (url.Values, error) {
	args, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "malformed query")
	}
	body, err := io.ReadAll(r.Body)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, errLongBody
	case err != nil:
		return nil, domain.Errorf(domain.Invalid, "incomplete body")
	case len(body) == 0:
		return args, nil
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil ||
		t != "application/x-www-form-urlencoded" {
		return nil, domain.Errorf(domain.Invalid, "the body must be a form (application/x-www-form-urlencoded)")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "malformed form")
	}
	for name, values := range form {
		args[name] = append(args[name], values...)
	}
	return args, nil
}

// argument returns the only value of an argument; given is false if it is absent.
func argument(args url.Values, name string) (value string, given bool, err error) {
	switch values := args[name]; len(values) {
	case 0:
		return "", false, nil
	case 1:
		return values[0], true, nil
	default:
		return "", true, domain.Errorf(domain.Invalid, "%s is given %d times", name, len(values))
	}
}
