package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/domain"
	"livego/internal/ops/peeruser"
)

// maxCredential bounds what is looked at of a credential, in bytes.
const maxCredential = 4 << 10

// AdminOptions configure a Door.
type AdminOptions struct {
	Hosts        []string // further host names that requests without a credential may be addressed to
	JWTSecret    string   // "" for no JWTs; with one, requests from loopback need a credential too
	JWTAlgorithm string   // HS256, HS384 or HS512
	JWTStrict    bool     // a JWT must have exp and role
	AdminToken   string   // "" for the one in the data directory

	// Allow are the networks from which requests need no credential. Loopback addresses in them have
	// no effect: AllowUsers decides there.
	Allow []netip.Prefix
	// AllowUsers are the system accounts of this machine whose requests need no credential.
	AllowUsers []uint32
	// PeerUser returns the user that owns the other end of a request's connection; nil stands for peeruser.Of.
	PeerUser func(context.Context) (uint32, error)

	SessionTime time.Duration // how long a browser stays logged in

	Failures      int // refused credentials a minute and address, as in Options
	LimitLoopback bool
}

// AdminAuth guards the operator's HTTP. From loopback a request needs no credential, only proof
// that no foreign page sent it, unless it belongs to a system account: that may be a proxy for
// anybody. From anywhere else, through a proxy, and always when there is a JWT secret, it needs the
// admin token or a JWT.
type AdminAuth struct {
	hosts       []string
	token       [32]byte // domain.Digest of the admin token
	tokenSource string   // the admin token is
	secret      []byte
	strict      bool // a JWT must have exp and role
	parser      *jwt.Parser
	allow       []netip.Prefix
	allowUsers  []uint32
	systemMax   uint32 // the highest user ID of system accounts
	peerUser    func(context.Context) (uint32, error)
	failures    failures

	sessionTime time.Duration
	sessions    sessions
}

// NewAdminAuth reads the admin token from dir, making token, file (mode 0600) and dir (0700) when
// they are absent. Where the options have a token it uses no file.
func NewAdminAuth(dir string, o AdminOptions) (*AdminAuth, error) {
	token, where := o.AdminToken, "setting admin_token"
	if token == "" {
		var err error
		if token, err = loadAdminToken(filepath.Join(dir, AdminTokenFile)); err != nil {
			return nil, fmt.Errorf("admin token: %w", err)
		}
		where = "file " + AdminTokenFile + " of the data directory"
	}
	d := &AdminAuth{
		tokenSource: where,
		strict:      o.JWTStrict,
		hosts:       o.Hosts,
		token:       domain.Digest(token),
		secret:      []byte(o.JWTSecret),
		// One algorithm, chosen here: a token does not choose how it is checked (RFC 8725, 3.1).
		parser:     jwt.NewParser(jwt.WithValidMethods([]string{o.JWTAlgorithm}), jwt.WithLeeway(30*time.Second)),
		allow:      o.Allow,
		allowUsers: o.AllowUsers,
		systemMax:  peeruser.ReadSystemUIDMax(),
		peerUser:   o.PeerUser,
		failures:   failures{limit: o.Failures, loopback: o.LimitLoopback},

		sessionTime: o.SessionTime,
	}
	if d.peerUser == nil {
		d.peerUser = peeruser.Of
	}
	return d, nil
}

// Access is what a route requires of a request.
type Access struct {
	Rights         Rights // the least that the credential must allow
	Credential     bool   // a credential is required from this machine too
	Safe           bool   // its GET changes nothing, whatever rights it takes
	CrossSiteLink  bool   // a link on another site's page may lead to it
	CrossSiteEmbed bool   // pages of every site may load it, and those in a sandbox may read it
	Monitoring     bool   // system accounts of this machine need no credential, as a collector of metrics has one
}

// Authorize returns nil when r may be served by a route that requires need. Otherwise it returns an
// Error of kind Denied, in one text for every bad credential and with ErrRights in its chain for a
// good one, or Invalid when r carries two different credentials. An address that has failed too
// often waits here.
//
// A credential comes as "Authorization: Bearer T", as the query's jwt=T, or as the cookie of a
// session that Login opened.
func (d *AdminAuth) Authorize(r *http.Request, need Access) error {
	if err := checkOrigin(r, need); err != nil {
		return err
	}
	credential, err := credentialOf(r)
	if err != nil {
		return err
	}
	if session, ok := d.Session(r); ok {
		if credential != "" {
			return errTwoCredentials()
		}
		return session.authorize(r, need)
	}
	has, why := d.rightsWithoutCredential(r, need)
	if credential == "" && has >= need.Rights {
		return nil
	}
	addr := rateLimitAddr(r.RemoteAddr)
	d.failures.wait(r.Context(), addr)
	if has := d.rightsOf(credential); has != 0 {
		if has < need.Rights {
			return errNotEnough(has, need.Rights)
		}
		return nil
	}
	if credential != "" { // who has shown nothing has not guessed
		d.failures.add(addr)
	}
	return &domain.Error{Kind: domain.Denied, Err: noCredentialError{d.tokenSource, why}}
}

// ErrCredential is in the chain of the Door's refusals that a good credential would have avoided.
var ErrCredential = errors.New("no credential")

type noCredentialError struct {
	tokenSource string // where it is
	reason      string
}

func (e noCredentialError) Error() string {
	text := "this needs a credential: the admin token (" + e.tokenSource + ") or a JWT, as Authorization: Bearer"
	if e.reason != "" {
		text += ". " + e.reason
	}
	return text
}
func (noCredentialError) Unwrap() error { return ErrCredential }

// Hint returns why a request from here, or from a network that needs no credential, was refused for
// the lack of one; "" for any other error.
func Hint(err error) string {
	e, _ := errors.AsType[noCredentialError](err)
	return e.reason
}

func errTwoCredentials() error {
	return domain.Errorf(domain.Invalid, "the request carries two different credentials")
}

// rightsOf returns what credential allows: the admin token everything, a JWT what its claim role
// says, and everything without one; 0 when it is not good.
func (d *AdminAuth) rightsOf(credential string) Rights {
	if len(credential) > maxCredential {
		return 0
	}
	digest := domain.Digest(credential)
	if subtle.ConstantTimeCompare(digest[:], d.token[:]) == 1 {
		return Admin
	}
	if len(d.secret) == 0 {
		return 0
	}
	var claims operatorClaims
	_, err := d.parser.ParseWithClaims(credential, &claims, func(t *jwt.Token) (any, error) {
		// An extension that must be understood, and is not (RFC 7515, 4.1.11).
		if _, ok := t.Header["crit"]; ok {
			return nil, errors.New("crit")
		}
		return d.secret, nil
	})
	// a token to publish or play manages nothing, whatever signed it
	if err != nil || claims.Action != nil || claims.Room != nil {
		return 0
	}
	if d.strict && (claims.Role == nil || claims.ExpiresAt == nil) {
		return 0
	}
	if claims.Role == nil {
		return Admin
	}
	has, _ := ParseRights(*claims.Role)
	return has
}

// operatorClaims are what is looked at in a JWT for the operator's HTTP.
type operatorClaims struct {
	jwt.RegisteredClaims
	Role   *string `json:"role"`
	Action *any    `json:"act"`
	Room   *any    `json:"room"`
}

// credentialOf returns the credential that r carries, "" for none.
func credentialOf(r *http.Request) (string, error) {
	all := r.URL.Query()["jwt"]
	for _, h := range r.Header.Values("Authorization") {
		if scheme, token, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
			all = append(all, strings.TrimSpace(token))
		}
	}
	if all = slices.Compact(all); len(all) > 1 {
		return "", errTwoCredentials()
	}
	if len(all) == 0 {
		return "", nil
	}
	return all[0], nil
}
