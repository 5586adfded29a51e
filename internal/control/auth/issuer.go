package auth

import (
	"net/netip"
	"time"

	"livego/internal/domain"
)

// A TokenIssuer issues tokens to publish and to play.
type TokenIssuer struct {
	Secret string        // "": no tokens can be issued
	MaxAge time.Duration // the longest lifetime of a token
}

// A TokenRequest describes a token, as entered by a user.
type TokenRequest struct {
	Action    domain.Action
	App, Room string        // room "*" means every room of the app
	Lifetime  time.Duration // how long the token may be used to start
	IP        string        // the only address that may use it; "": any
	Viewers   int           // how many viewers may use it at a time; 0: the server's default
	Once      bool          // a one-time token
	Session   time.Duration // how long a viewer may stay; 0: the server's default
	Signed    bool          // for a signed URL, shorter than a JWT
}

// Issue returns a token that is valid from now on, and when it expires. Errors are of kind Invalid
// for a request that breaks a rule, and Conflict when there is no secret.
func (m TokenIssuer) Issue(w TokenRequest, now time.Time) (string, time.Time, error) {
	if m.Secret == "" {
		return "", time.Time{}, domain.Errorf(domain.Conflict,
			"token.secret is not set: set it to at least 16 characters")
	}
	c, err := m.claims(w, now)
	if err != nil {
		return "", time.Time{}, err
	}
	if w.Signed {
		return Sign(m.Secret, c), c.Expires, nil
	}
	token, err := signJWT(m.Secret, c)
	return token, c.Expires, err
}

func (m TokenIssuer) claims(w TokenRequest, now time.Time) (Claims, error) {
	c := Claims{
		Action: w.Action, App: w.App, Room: w.Room, Issued: now, Expires: now.Add(w.Lifetime).Truncate(time.Second),
		Viewers: w.Viewers, Once: w.Once,
		Session: w.Session,
	}
	if err := domain.CheckApp(w.App); err != nil {
		return c, err
	}
	if err := domain.CheckRoom(w.Room); w.Room != "*" && err != nil {
		return c, err
	}
	switch {
	case w.Lifetime < time.Second || w.Lifetime > m.MaxAge:
		return c, domain.Errorf(domain.Invalid, "invalid token lifetime: must be from 1s to token.max_age (%v)", m.MaxAge)
	case w.Viewers < 0 || w.Viewers > 0 && w.Action == domain.Publish:
		return c, domain.Errorf(domain.Invalid, "invalid viewers: must not be negative, and is for play tokens only")
	case w.Session != 0 && (w.Session < time.Second || w.Session.Seconds() > maxSession || w.Action == domain.Publish):
		return c, domain.Errorf(domain.Invalid, "invalid session: must be at least 1s, and is for play tokens only")
	case w.Signed && (w.Room == "*" || w.Viewers > 0 || w.Once || w.Session > 0):
		return c, domain.Errorf(domain.Invalid,
			"invalid signed URL: it is for one stream, and cannot limit viewers, uses or the session")
	case w.IP == "":
		return c, nil
	}
	ip, err := netip.ParseAddr(w.IP)
	if err != nil || ip.Zone() != "" {
		return c, domain.Errorf(domain.Invalid, "invalid ip: not an IP address")
	}
	c.IP = ip.Unmap()
	return c, nil
}
