package auth

import (
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/domain"
)

const (
	sessionCookie = "livego_session"
	// CSRFHeader is the header by which a page of this server proves that it sent a request: no
	// page of another site knows its value.
	CSRFHeader = "X-CSRF-Token"
	// maxSessions bounds the table: about 200 kB. Each session needs a valid credential.
	maxSessions = 1000
)

// SessionCookie returns the name of the cookie of a browser that has logged in at the host and port that r is
// addressed to. A browser sends a cookie to every port of a host, so servers on different ports need different names.
func SessionCookie(r *http.Request) string {
	if _, port, err := net.SplitHostPort(r.Host); err == nil && port != "" {
		return sessionCookie + "_" + port
	}
	return sessionCookie
}

// A Session is a browser that has logged in with a credential.
type Session struct {
	ID      string // value of the cookie; "" when the session was read from a request
	CSRF    string // value of CSRFHeader in requests that change something
	Rights  Rights
	Expires time.Time
}

// sessions are the open sessions by the digest of their IDs. They end with the process.
type sessions struct {
	mu       sync.Mutex
	byDigest map[[32]byte]Session
}

func (s *sessions) add(id string, n Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byDigest == nil {
		s.byDigest = map[[32]byte]Session{}
	}
	if len(s.byDigest) >= maxSessions {
		s.evict(time.Now())
	}
	s.byDigest[domain.Digest(id)] = n
}

// evict removes expired sessions, and the one that expires next when none has. The caller holds
// s.mu.
func (s *sessions) evict(now time.Time) {
	var next [32]byte
	first := true
	for d, n := range s.byDigest {
		if n.Expires.Before(now) {
			delete(s.byDigest, d)
		} else if first || n.Expires.Before(s.byDigest[next].Expires) {
			next, first = d, false
		}
	}
	if len(s.byDigest) >= maxSessions {
		delete(s.byDigest, next)
	}
}

func (s *sessions) get(id string) (Session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.byDigest[domain.Digest(id)]
	return n, ok && time.Now().Before(n.Expires)
}

func (s *sessions) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byDigest, domain.Digest(id))
}

// ErrInvalidCredential is in the chain of the error of Login for an invalid credential.
var ErrInvalidCredential = errors.New("invalid credential: neither the admin token nor a valid JWT")

// Login opens a session for a credential, the admin token or a JWT. The session lasts for the
// session time, but not longer than the JWT. The error is of kind Denied for an invalid credential,
// which has ErrInvalidCredential in its chain, and for a page of another site. Requests from an
// address with too many failures are delayed.
func (a *AdminAuth) Login(r *http.Request, credential string) (Session, error) {
	if err := checkOrigin(r, Access{}); err != nil {
		return Session{}, err
	}
	addr := rateLimitAddr(r.RemoteAddr)
	a.failures.wait(r.Context(), addr)
	has := a.rightsOf(credential)
	if has == 0 {
		if credential != "" {
			a.failures.add(addr)
		}
		return Session{}, &domain.Error{Kind: domain.Denied, Err: ErrInvalidCredential}
	}
	n := Session{CSRF: domain.NewSecret(), Rights: has, Expires: time.Now().Add(a.opt.SessionTime)}
	var claims jwt.RegisteredClaims // of a JWT that was verified above
	_, _, err := jwt.NewParser().ParseUnverified(credential, &claims)
	if end := claims.ExpiresAt; err == nil && end != nil && end.Before(n.Expires) {
		n.Expires = end.Time
	}
	id := domain.NewSecret()
	a.sessions.add(id, n)
	n.ID = id
	return n, nil
}

// Logout ends the session of r if csrf is the session's token.
func (a *AdminAuth) Logout(r *http.Request, csrf string) error {
	n, ok := a.Session(r)
	if !ok {
		return nil
	}
	if err := checkOrigin(r, Access{}); err != nil {
		return err
	}
	if !n.validCSRF(csrf) {
		return errNoCSRF()
	}
	for _, c := range r.CookiesNamed(SessionCookie(r)) {
		a.sessions.remove(c.Value)
	}
	return nil
}

// Session returns the session of r's cookie; false when there is none, or several. Pages on other ports of this host
// can set cookies of the same name, which are ignored: they cannot end a session.
func (a *AdminAuth) Session(r *http.Request) (session Session, ok bool) {
	for _, c := range r.CookiesNamed(SessionCookie(r)) {
		if !domain.LooksLikeKey(c.Value) {
			continue
		}
		if n, valid := a.sessions.get(c.Value); valid {
			if ok {
				return Session{}, false
			}
			session, ok = n, true
		}
	}
	return session, ok
}

// Rights returns the rights of a request that Authorize allows to read.
func (a *AdminAuth) Rights(r *http.Request) Rights {
	for _, has := range []Rights{Admin, Operate} {
		if a.authorize(r, Access{Rights: has, Safe: true}) == nil {
			return has
		}
	}
	return Read
}

// validCSRF reports whether csrf is the session's token.
func (n Session) validCSRF(csrf string) bool {
	return subtle.ConstantTimeCompare([]byte(csrf), []byte(n.CSRF)) == 1
}

func errNoCSRF() error {
	return domain.Errorf(domain.Denied, "missing or invalid CSRF token in %s", CSRFHeader)
}

// authorize returns nil when r, which comes with the session, may be served by a route that
// requires need. A browser sends the cookie with every request to this host, whatever page caused
// it, so requests that may change something must also carry the session's CSRF token.
func (n Session) authorize(r *http.Request, need Access) error {
	if n.Rights < need.Rights {
		return errNotEnough(n.Rights, need.Rights)
	}
	reads := (need.Rights == Read || need.Safe) && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	if !reads && !n.validCSRF(r.Header.Get(CSRFHeader)) {
		return errNoCSRF()
	}
	return nil
}
