package auth

import (
	"net/netip"
	"time"

	"livego/internal/domain"
)

// A TokenIssuer makes tokens to publish and to play.
type TokenIssuer struct {
	Secret string        // "": none can be made
	MaxAge time.Duration // how long the longest is good
}

// A TokenRequest is what a token is to allow, as somebody has typed it.
type TokenRequest struct {
	Action    domain.Action
	App, Room string        // a room "*" stands for every one of the app
	Lifetime  time.Duration // how long it is good
	IP        string        // the only address that it is good from; "": any
	Viewers   int           // how many may watch with it at a time; 0: as the server says
	Once      bool          // it is good one time
	Session   time.Duration // how long a viewer may stay; 0: as the server says
	Signed    bool          // for a signed URL, shorter than a JWT
}

// Issue returns a token that is good from now, and until when. Errors are of kind Invalid for a
// wish that breaks a rule, Conflict where there is no secret.
func (m TokenIssuer) Issue(w TokenRequest, now time.Time) (string, time.Time, error) {
	if m.Secret == "" {
		return "", time.Time{}, domain.Errorf(domain.Conflict,
			"token.secret is not set: put one of at least 16 characters into the settings")
	}
	c, err := m.claims(w, now)
	if err != nil {
		return "", time.Time{}, err
	}
	if w.Signed {
		return Sign(m.Secret, c), c.Expires, nil
	}
	token, err := SignJWT(m.Secret, c)
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
		return c, domain.Errorf(domain.Invalid, "a token is good for 1s to token.max_age (%v)", m.MaxAge)
	case w.Viewers < 0 || w.Viewers > 0 && w.Action == domain.Publish:
		return c, domain.Errorf(domain.Invalid, "viewers is a number of viewers, and no publisher has any")
	case w.Session != 0 && (w.Session < time.Second || w.Session.Seconds() > maxSession || w.Action == domain.Publish):
		return c, domain.Errorf(domain.Invalid, "session must be at least 1s, and is for tokens to play only")
	case w.Signed && (w.Room == "*" || w.Viewers > 0 || w.Once || w.Session > 0):
		return c, domain.Errorf(domain.Invalid,
			"a signed URL is for one stream, and cannot say how many may watch, how often or for how long")
	case w.IP == "":
		return c, nil
	}
	ip, err := netip.ParseAddr(w.IP)
	if err != nil || ip.Zone() != "" {
		return c, domain.Errorf(domain.Invalid, "ip must be an address")
	}
	c.IP = ip.Unmap()
	return c, nil
}
