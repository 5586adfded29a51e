package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/domain"
	"livego/internal/ops/httpx"
	"livego/internal/ops/peeruser"
)

// maxCredential is the longest credential that is checked, in bytes.
const maxCredential = 4 << 10

// AdminOptions configure an AdminAuth.
type AdminOptions struct {
	Hosts []string // further host names that requests without a credential may be addressed to
	// JWTSecret enables JWTs. With a secret, requests from loopback need a credential too, except for
	// monitoring.
	JWTSecret    string
	JWTAlgorithm string // HS256, HS384 or HS512
	JWTStrict    bool   // a JWT must have exp and role
	AdminToken   string // "" uses the token in the data directory

	// Allow lists the networks from which requests need no credential. Loopback addresses in them
	// have no effect: AllowUsers decides there.
	Allow []netip.Prefix
	// AllowUsers lists the system accounts of this machine whose requests need no credential.
	AllowUsers []uint32
	// PeerUser returns the user that owns the other end of a request's connection; nil means
	// peeruser.Of.
	PeerUser func(context.Context) (uint32, error)

	SessionTime time.Duration // how long a browser stays logged in

	Failures      int // refused credentials per minute and address, as in Options
	LimitLoopback bool
}

// AdminAuth authorizes requests to the operator's HTTP. A request from loopback needs no credential
// if no page of another site sent it and its connection does not belong to a system account, which
// may be a proxy for other clients. Every other request needs the admin token or a JWT: from
// another machine, through a proxy, and always when a JWT secret is set.
type AdminAuth struct {
	opt         AdminOptions
	token       [32]byte // domain.Digest of the admin token
	tokenSource string   // where the admin token is configured, for refusals
	parser      *jwt.Parser
	systemMax   uint32 // the highest user ID of system accounts
	failures    failures
	sessions    *sessions
	*refusalCounts
}

// NewAdminAuth reads the admin token from dir. It creates the token, the file (mode 0600) and dir
// (mode 0700) when they are absent. When the options have a token it uses no file.
func NewAdminAuth(dir string, o AdminOptions) (*AdminAuth, error) {
	token, where := o.AdminToken, "setting admin_token"
	if token == "" {
		var err error
		if token, err = ReadAdminToken(dir); errors.Is(err, fs.ErrNotExist) {
			token, err = createAdminToken(dir)
		}
		if err != nil {
			return nil, fmt.Errorf("admin token: %w", err)
		}
		where = "file " + adminTokenFile + " of the data directory"
	}
	if o.PeerUser == nil {
		o.PeerUser = peeruser.Of
	}
	return &AdminAuth{
		opt:         o,
		token:       domain.Digest(token),
		tokenSource: where,
		// The algorithm is fixed here: a token must not choose how it is verified (RFC 8725, 3.1).
		parser:    jwt.NewParser(jwt.WithValidMethods([]string{o.JWTAlgorithm}), jwt.WithLeeway(30*time.Second)),
		systemMax: peeruser.ReadSystemUIDMax(),
		failures:  newFailures(o.Failures, o.LimitLoopback, nil),
		sessions:  new(sessions),

		refusalCounts: new(refusalCounts),
	}, nil
}

// With returns an AdminAuth with other options, which reads the admin token from dir as NewAdminAuth
// does. It shares the state of a: failures and refusals are counted together, and browsers stay logged in unless
// the admin token or the JWT secret has changed.
func (a *AdminAuth) With(dir string, o AdminOptions) (*AdminAuth, error) {
	next, err := NewAdminAuth(dir, o)
	if err != nil {
		return nil, err
	}
	next.refusalCounts = a.refusalCounts
	next.failures = newFailures(o.Failures, o.LimitLoopback, a.failures.failureCounts)
	if next.token == a.token && o.JWTSecret == a.opt.JWTSecret {
		next.sessions = a.sessions
	}
	return next, nil
}

// Access is what a route requires of a request.
type Access struct {
	Rights         Rights // the least rights that the credential must have
	Credential     bool   // a credential is required from this machine too
	Safe           bool   // GET changes nothing, whatever rights the route needs
	CrossSiteLink  bool   // links on pages of other sites may lead to it
	CrossSiteEmbed bool   // pages of any site may load it, and sandboxed pages may read it
	// Monitoring is a route for programs that collect metrics: from this machine they need no
	// credential, although they run as system accounts and even if a JWT secret is set.
	Monitoring bool
}

// Authorize returns nil when r may be served by a route that requires need. Otherwise the error is
// of kind Denied or, when r carries two different credentials, Invalid. All invalid credentials get
// the same text; a valid credential with too few rights has ErrRights in its chain. Requests from
// an address with too many failures are delayed.
//
// The credential is "Authorization: Bearer T", jwt=T in the query, or the cookie of a session that
// Login opened.
func (a *AdminAuth) Authorize(r *http.Request, need Access) error {
	err := a.authorize(r, need)
	if err != nil {
		a.count(actionManage, err)
	}
	return err
}

func (a *AdminAuth) authorize(r *http.Request, need Access) error {
	if err := checkOrigin(r, need); err != nil {
		return err
	}
	credential, err := credentialOf(r)
	if err != nil {
		return err
	}
	if session, ok := a.Session(r); ok {
		if credential != "" {
			return errTwoCredentials()
		}
		return session.authorize(r, need)
	}
	has, why := a.rightsWithoutCredential(r, need)
	if credential == "" && has >= need.Rights {
		return nil
	}
	addr := rateLimitAddr(r.RemoteAddr)
	a.failures.wait(r.Context(), addr)
	if has := a.rightsOf(credential); has != 0 {
		if has < need.Rights {
			return errNotEnough(has, need.Rights)
		}
		return nil
	}
	if credential != "" { // a request without a credential is not a guess
		a.failures.add(addr)
	}
	return &domain.Error{Kind: domain.Denied, Err: noCredentialError{a.tokenSource, why}}
}

// ErrCredential is in the chain of AdminAuth's refusals that a valid credential would have avoided.
var ErrCredential = errors.New("no credential")

type noCredentialError struct {
	tokenSource string // where the admin token is configured
	reason      string
}

func (e noCredentialError) Error() string {
	text := "credential required: the admin token (" + e.tokenSource + ") or a JWT, as Authorization: Bearer"
	if e.reason != "" {
		text += ". " + e.reason
	}
	return text
}
func (noCredentialError) Unwrap() error { return ErrCredential }

// Hint returns why a request from this machine, or from a network that needs no credential, was
// refused for the lack of one; "" for any other error.
func Hint(err error) string {
	e, _ := errors.AsType[noCredentialError](err)
	return e.reason
}

func errTwoCredentials() error {
	return domain.Errorf(domain.Invalid, "the request has two different credentials")
}

// rightsOf returns the rights of credential: Admin for the admin token, the role claim's for a JWT,
// and Admin for a JWT without that claim; 0 when the credential is invalid.
func (a *AdminAuth) rightsOf(credential string) Rights {
	if len(credential) > maxCredential {
		return 0
	}
	digest := domain.Digest(credential)
	if subtle.ConstantTimeCompare(digest[:], a.token[:]) == 1 {
		return Admin
	}
	if a.opt.JWTSecret == "" {
		return 0
	}
	var claims operatorClaims
	_, err := a.parser.ParseWithClaims(credential, &claims, func(t *jwt.Token) (any, error) {
		// An extension that must be understood, and is not (RFC 7515, 4.1.11).
		if _, ok := t.Header["crit"]; ok {
			return nil, errors.New("crit")
		}
		return []byte(a.opt.JWTSecret), nil
	})
	// A token to publish or play grants no rights here, whatever key signed it.
	if err != nil || claims.Action != nil || claims.Room != nil {
		return 0
	}
	if a.opt.JWTStrict && (claims.Role == nil || claims.ExpiresAt == nil) {
		return 0
	}
	if claims.Role == nil {
		return Admin
	}
	has, _ := ParseRights(*claims.Role)
	return has
}

// operatorClaims are the claims that are read from a JWT for the operator's HTTP.
type operatorClaims struct {
	jwt.RegisteredClaims
	Role   *string `json:"role"`
	Action *any    `json:"act"`
	Room   *any    `json:"room"`
}

// credentialOf returns the credential that r carries, "" for none.
func credentialOf(r *http.Request) (string, error) {
	credential, several := httpx.Credential(r, "jwt")
	if several {
		return "", errTwoCredentials()
	}
	return credential, nil
}
