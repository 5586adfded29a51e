package auth

import (
	"crypto/subtle"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/domain"
)

const (
	// SessionCookie is the name of the cookie of a browser that has logged in.
	SessionCookie = "livego_session"
	// CSRFHeader is the header by which a page of ours shows that it sent a request: no page of
	// another site knows its value.
	CSRFHeader = "X-CSRF-Token"
	// maxSessions bounds the table, about 200 kB. Each takes a good credential.
	maxSessions = 1000
)

// A Session is a browser that has logged in with a credential.
type Session struct {
	ID      string // the value of the cookie; "" when it was read from a request
	CSRF    string // what requests that change something must show in CSRFHeader
	Rights  Rights
	Expires time.Time
}

// sessions are those that are open, by the digest of their IDs. They end with the process.
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

// evict removes the sessions that have expired, and the one that expires next where there are none. Caller holds s.mu.
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

// Login opens a session for a credential, the admin token or a JWT; it lasts for the session time,
// or as long as the JWT. The error is of kind Denied for a bad credential and for a page of another
// site. An address that has failed too often waits here.
func (d *AdminAuth) Login(r *http.Request, credential string) (Session, error) {
	if err := checkOrigin(r, Access{}); err != nil {
		return Session{}, err
	}
	addr := rateLimitAddr(r.RemoteAddr)
	d.failures.wait(r.Context(), addr)
	has := d.rightsOf(credential)
	if has == 0 {
		if credential != "" {
			d.failures.add(addr)
		}
		return Session{}, domain.Errorf(domain.Denied, "this is neither the admin token nor a valid JWT")
	}
	n := Session{CSRF: domain.NewSecret(), Rights: has, Expires: time.Now().Add(d.sessionTime)}
	var claims jwt.RegisteredClaims // of a JWT that was verified above
	_, _, err := jwt.NewParser().ParseUnverified(credential, &claims)
	if end := claims.ExpiresAt; err == nil && end != nil && end.Before(n.Expires) {
		n.Expires = end.Time
	}
	id := domain.NewSecret()
	d.sessions.add(id, n)
	n.ID = id
	return n, nil
}

// Logout ends the session of r, which must show csrf, the session's own.
func (d *AdminAuth) Logout(r *http.Request, csrf string) error {
	n, ok := d.Session(r)
	if !ok {
		return nil
	}
	if err := checkOrigin(r, Access{}); err != nil {
		return err
	}
	if !n.validCSRF(csrf) {
		return errNoCSRF()
	}
	for _, c := range r.CookiesNamed(SessionCookie) {
		d.sessions.remove(c.Value)
	}
	return nil
}

// Session returns the session that the cookie of r names; false where there is none.
func (d *AdminAuth) Session(r *http.Request) (Session, bool) {
	cookies := r.CookiesNamed(SessionCookie)
	if len(cookies) != 1 || !domain.LooksLikeKey(cookies[0].Value) { // another server on this host may have set one too
		return Session{}, false
	}
	return d.sessions.get(cookies[0].Value)
}

// validCSRF reports whether csrf is the session's.
func (n Session) validCSRF(csrf string) bool {
	return subtle.ConstantTimeCompare([]byte(csrf), []byte(n.CSRF)) == 1
}

func errNoCSRF() error {
	return domain.Errorf(domain.Denied, "a browser that is logged in must show the page's token in %s", CSRFHeader)
}

// authorize returns nil when r, which comes with the session, may be served by a route that
// requires need. A cookie comes with every request that a browser sends to this host, whatever page
// sent it, so that what may change something must show the session's own token too.
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
