package api

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"livego/internal/control/auth"
	"livego/internal/domain"
)

// showsLogin reports whether the response to r, which was refused with err, is the login form: for
// a browser that loads a page without a credential, which it cannot send in a header.
func (s *server) showsLogin(r *http.Request, err error) bool {
	return errors.Is(err, auth.ErrCredential) && r.Method == http.MethodGet && isLoginTarget(r.URL.Path) &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}

// isLoginTarget reports whether a browser may be redirected to p after login.
func isLoginTarget(p string) bool {
	if p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") || strings.ContainsAny(p, "\\\r\n") {
		return false
	}
	return p == "/" || strings.HasPrefix(p, "/statics/") || strings.HasPrefix(p, "/debug/pprof/")
}

// loginData is the data of the login template.
type loginData struct {
	pageData
	Root  string // relative path from the page to /, which also works below a proxy's path prefix
	Next  string // path to redirect to after login
	Hint  string // why a credential is needed, if that is not obvious
	Wrong string // why the last attempt failed
	Plain bool   // the token would be sent over the network in plain text
}

// writeLogin writes the login form.
func (s *server) writeLogin(w http.ResponseWriter, r *http.Request, d loginData) {
	ip, _ := netip.ParseAddr(hostname(r.Host))
	d.pageData = pageData{CSS: s.page.css, Icon: s.page.icon, Version: s.Version}
	d.Root = "./" + strings.Repeat("../", strings.Count(r.URL.Path, "/")-1)
	d.Plain = scheme(r) == "http" && hostname(r.Host) != "localhost" && !ip.IsLoopback()
	s.writePage(w, r, s.page.login, http.StatusForbidden, d)
}

// serveLogin opens a session for the credential in a form, and redirects to the page that showed
// the form.
func (s *server) serveLogin(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead { // a page that is reloaded after a failure
		redirect(w, "/")
		return
	}
	args, err := s.form(w, r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	next := args.Get("next")
	if !isLoginTarget(next) {
		next = "/"
	}
	session, err := s.Auth.Login(r, strings.TrimSpace(args.Get("credential")))
	if err != nil {
		s.logRefusal(r, err)
		s.writeLogin(w, r, loginData{Next: next, Wrong: domain.Reason(err)})
		return
	}
	s.Log.Info("operator logged in", "role", session.Rights.String(), "remote", r.RemoteAddr)
	s.setCookie(w, r, session.ID, time.Until(session.Expires))
	redirect(w, next)
}

// redirect redirects a browser from /login or /logout to a path of this server. The location is
// relative, because a proxy may serve this below a path prefix.
func redirect(w http.ResponseWriter, path string) {
	w.Header().Set("Location", "."+(&url.URL{Path: path}).EscapedPath())
	w.WriteHeader(http.StatusSeeOther)
}

// serveLogout ends the session of the request.
func (s *server) serveLogout(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		redirect(w, "/")
		return
	}
	args, err := s.form(w, r)
	if err == nil {
		err = s.Auth.Logout(r, args.Get("csrf_token"))
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	s.setCookie(w, r, "", -time.Second)
	redirect(w, "/")
}

// form returns the fields of a form sent by POST.
func (s *server) form(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, HEAD, POST")
		return nil, errMethod
	}
	if r.URL.RawQuery != "" { // credentials do not belong in URLs
		return nil, domain.Errorf(domain.Invalid, "form fields must be in the body")
	}
	if err := limitBody(w, r); err != nil {
		return nil, err
	}
	args, err := arguments(r)
	if err != nil {
		return nil, err
	}
	for name := range args {
		if _, _, err := argument(args, name); err != nil {
			return nil, domain.Errorf(domain.Invalid, "duplicate form field")
		}
	}
	return args, nil
}

// setCookie sets the session cookie for a duration, or deletes it if keep is negative.
func (s *server) setCookie(w http.ResponseWriter, r *http.Request, value string, keep time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: auth.SessionCookie(r), Value: value, Path: "/", MaxAge: int(keep.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// A browser sends the origin of a form with the scheme that it used to reach the proxy.
		Secure: scheme(r) == "https" || strings.HasPrefix(r.Header.Get("Origin"), "https://"),
	})
}

// scheme returns the scheme of the browser's request. It trusts X-Forwarded-Proto of any client,
// because links and cookies affect only that client.
func scheme(r *http.Request) string {
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return "https"
	}
	return "http"
}
