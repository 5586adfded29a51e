package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/domain"
	"livego/internal/ops/netx"
)

// leeway is the tolerated difference between the clocks of a token's issuer and this server.
const leeway = 30 * time.Second

// TokenOptions configure which tokens to publish and to play are accepted: those that one of the
// keys has signed. Without a key none is.
type TokenOptions struct {
	Secret   string            // for HS256 and signed URLs; "" for none
	Previous string            // the previous secret, accepted during a rotation
	Public   ed25519.PublicKey // for EdDSA; nil for none
	JWKS     *JWKS             // for RS256; nil for none
	Issuer   string            // required value of iss; "": any
	Audience string            // required value of aud; "": any
	MaxAge   time.Duration     // how far in the future a token may expire
	Viewers  int               // viewers at a time for a token without that claim; 0: unlimited
	Session  time.Duration     // longest session that a token starts; default 24 h
}

// Claims are what a token allows.
type Claims struct {
	Action  domain.Action
	App     string
	Room    string     // "*": every room of App
	Expires time.Time  // in seconds
	Issued  time.Time  // zero without the claim
	IP      netip.Addr // the only address that may use it; zero: any
	Viewers int        // how many viewers may use it at a time; 0: the server's default
	Once    bool       // a one-time token

	// Session bounds a session that starts with the token; 0: the server's default. Expires bounds
	// only when the session may start.
	Session time.Duration
}

// malformed returns the error for a token that cannot be parsed.
func malformed(format string, args ...any) error {
	return domain.CodeErrorf(domain.Denied, domain.TokenMalformed, "token malformed: "+format, args...)
}

// invalid returns the error for a token that can be parsed and is not trusted.
func invalid(format string, args ...any) error {
	return domain.CodeErrorf(domain.Denied, domain.TokenInvalid, "token invalid: "+format, args...)
}

// tokenVerifier verifies tokens.
type tokenVerifier struct {
	opt    TokenOptions
	parser *jwt.Parser
	hmac   jwt.VerificationKeySet
}

// newTokenVerifier returns nil when no key is configured.
func newTokenVerifier(o TokenOptions) *tokenVerifier {
	o.Session = cmp.Or(o.Session, 24*time.Hour)
	t := &tokenVerifier{opt: o}
	var methods []string
	for _, secret := range []string{o.Secret, o.Previous} {
		if secret != "" {
			t.hmac.Keys = append(t.hmac.Keys, []byte(secret))
		}
	}
	if len(t.hmac.Keys) > 0 {
		methods = append(methods, jwt.SigningMethodHS256.Alg())
	}
	if o.Public != nil {
		methods = append(methods, jwt.SigningMethodEdDSA.Alg())
	}
	if o.JWKS != nil {
		methods = append(methods, jwt.SigningMethodRS256.Alg())
	}
	if methods == nil {
		return nil
	}
	// The algorithms are fixed here, and each has its own keys: a token must not choose how it is
	// verified (RFC 8725, 3.1).
	t.parser = jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding())
	return t
}

// verify returns the claims of token, which is not empty, if it allows r. The error for a token
// with an invalid signature contains nothing that its sender does not know.
func (t *tokenVerifier) verify(ctx context.Context, token string, r domain.AuthRequest, now time.Time) (Claims, error) {
	// The base64 decoder ignores line breaks, and the signature is not signed: a one-time token
	// would have many forms.
	if strings.ContainsAny(token, "\r\n") {
		return Claims{}, malformed("it contains a line break")
	}
	if len(token) > maxCredential {
		return Claims{}, malformed("it exceeds the limit of %d bytes", maxCredential)
	}
	addr := netx.ParseClient(r.Remote)
	if strings.HasPrefix(token, signedPrefix) {
		return t.verifySigned(token, r, addr, now)
	}
	var w jwtPayload
	_, err := t.parser.ParseWithClaims(token, &w, func(j *jwt.Token) (any, error) { return t.key(ctx, j) })
	if err != nil {
		return Claims{}, parseError(err)
	}
	c, err := w.claims(t.opt)
	if err != nil {
		return Claims{}, err
	}
	if w.nbf.After(now.Add(leeway)) {
		return Claims{}, notYetValid(w.nbf)
	}
	if err := t.checkTimes(c, now); err != nil {
		return Claims{}, err
	}
	switch {
	case c.Action != r.Action:
		return Claims{}, domain.CodeErrorf(domain.Denied, domain.TokenWrongAction, "token is not valid to %s, only to %s",
			r.Action, c.Action)
	case c.App != r.App || c.Room != r.Name && c.Room != "*":
		return Claims{}, domain.CodeErrorf(domain.Denied, domain.TokenWrongStream, "token is for another app or room")
	case c.IP.IsValid() && c.IP != addr:
		return Claims{}, domain.CodeErrorf(domain.Denied, domain.TokenWrongAddress, "token is bound to another address")
	}
	return c, nil
}

// parseError converts an error of the JWT library.
func parseError(err error) error {
	var ours *domain.Error
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.Is(err, jwt.ErrTokenMalformed):
		return malformed("neither a JWT nor the token of a signed URL")
	}
	return invalid("signature or algorithm not accepted")
}

func notYetValid(when time.Time) error {
	return domain.CodeErrorf(domain.Denied, domain.TokenNotYetValid, "token not valid before %s",
		when.UTC().Format(time.RFC3339))
}

// checkTimes returns an error if c is expired, not yet valid, or valid for too long.
func (t *tokenVerifier) checkTimes(c Claims, now time.Time) error {
	switch {
	case !now.Before(c.Expires.Add(leeway)):
		return domain.CodeErrorf(domain.Denied, domain.TokenExpired, "token expired at %s",
			c.Expires.UTC().Format(time.RFC3339))
	case c.Expires.After(now.Add(t.opt.MaxAge + leeway)):
		return invalid("exp is more than token.max_age (%v) in the future", t.opt.MaxAge)
	case c.Issued.After(now.Add(leeway)):
		return notYetValid(c.Issued)
	}
	return nil
}

// key returns the key that must verify the JWT.
func (t *tokenVerifier) key(ctx context.Context, j *jwt.Token) (any, error) {
	if _, ok := j.Header["crit"]; ok { // an extension that must be understood, and is not (RFC 7515, 4.1.11)
		return nil, invalid("crit names an unknown extension")
	}
	switch j.Method {
	case jwt.SigningMethodHS256:
		return t.hmac, nil
	case jwt.SigningMethodEdDSA:
		return t.opt.Public, nil
	case jwt.SigningMethodRS256:
		kid, _ := j.Header["kid"].(string)
		return t.opt.JWKS.key(ctx, kid)
	}
	return nil, invalid("algorithm not accepted")
}

// jwtPayload is the payload of a JWT, parsed strictly: a duplicate claim, or one of a wrong type,
// makes the token malformed.
type jwtPayload struct {
	jwt.MapClaims // required by the library, which validates none of it
	act, app      string
	room, ip      string
	iss, aud      string
	exp, iat, nbf time.Time
	viewers       int
	once          bool
	session       time.Duration
}

// UnmarshalJSON parses the payload.
func (w *jwtPayload) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	errNotObject := malformed("the payload is not a JSON object")
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errNotObject
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return errNotObject
		}
		key, _ := name.(string)
		var value json.RawMessage
		switch {
		case d.Decode(&value) != nil:
			return errNotObject
		case seen[key]:
			return malformed("duplicate claim")
		case !w.setClaim(key, value):
			return malformed("claim %s has an invalid value", key) // setClaim knows key
		}
		seen[key] = true
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return errNotObject
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errNotObject
	}
	for _, key := range []string{"exp", "act", "app", "room"} {
		if !seen[key] {
			return malformed("claim %s is missing", key)
		}
	}
	return nil
}

// setClaim parses one claim. Unknown claims are ignored.
func (w *jwtPayload) setClaim(name string, value json.RawMessage) bool {
	switch name {
	case "exp":
		return parseSeconds(value, &w.exp)
	case "nbf":
		return parseTime(value, &w.nbf)
	case "iat":
		return parseTime(value, &w.iat)
	case "once":
		return json.Unmarshal(value, &w.once) == nil && string(value) != "null"
	case "session":
		n, err := strconv.ParseInt(string(value), 10, 64)
		w.session = time.Duration(n) * time.Second
		return err == nil && n > 0 && n <= maxSession
	case "ip": // an empty address would bind the token to nothing: the issuing program may have failed to find it
		return json.Unmarshal(value, &w.ip) == nil && w.ip != ""
	case "viewers":
		return json.Unmarshal(value, &w.viewers) == nil && w.viewers > 0
	}
	to := map[string]*string{"act": &w.act, "app": &w.app, "room": &w.room, "iss": &w.iss, "aud": &w.aud}[name]
	return to == nil || len(value) > 0 && value[0] == '"' && json.Unmarshal(value, to) == nil
}

// parseSeconds parses a whole number of seconds since 1970.
func parseSeconds(value json.RawMessage, to *time.Time) bool {
	n, err := strconv.ParseInt(string(value), 10, 64)
	*to = time.Unix(n, 0)
	return err == nil && n > 0 && n < maxTime
}

// parseTime parses seconds since 1970, which may have a fraction.
func parseTime(value json.RawMessage, to *time.Time) bool {
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || f < 0 || f >= maxTime {
		return false
	}
	*to = time.UnixMicro(int64(f * 1e6))
	return true
}

// maxSession is the longest session that a claim may name, in seconds: longer than any setting.
const maxSession = 10 * 365 * 86400

// maxTime is the year 9999: later times cannot be formatted.
const maxTime = 253402300800

// claims returns what the payload allows.
func (w *jwtPayload) claims(o TokenOptions) (Claims, error) {
	c := Claims{App: w.app, Room: w.room, Expires: w.exp, Issued: w.iat, Viewers: w.viewers, Once: w.once,
		Session: w.session}
	switch w.act {
	case domain.Play.String():
	case domain.Publish.String():
		c.Action = domain.Publish
	default:
		return Claims{}, malformed("claim act is neither play nor publish")
	}
	if o.Issuer != "" && w.iss != o.Issuer {
		return Claims{}, invalid("claim iss is not token.issuer")
	}
	if o.Audience != "" && w.aud != o.Audience {
		return Claims{}, invalid("claim aud is not token.audience")
	}
	if w.ip != "" {
		ip, err := netip.ParseAddr(w.ip)
		if err != nil {
			return Claims{}, malformed("claim ip is not an IP address")
		}
		c.IP = ip.Unmap()
	}
	return c, nil
}

// signJWT returns c as a JWT signed by HS256.
func signJWT(secret string, c Claims) (string, error) {
	m := jwt.MapClaims{
		"act": c.Action.String(), "app": c.App, "room": c.Room, "exp": c.Expires.Unix(),
		"iat": float64(c.Issued.UnixMilli()) / 1000,
	}
	if c.IP.IsValid() {
		m["ip"] = c.IP.String()
	}
	if c.Viewers > 0 {
		m["viewers"] = c.Viewers
	}
	if c.Session > 0 {
		m["session"] = int64(c.Session.Seconds())
	}
	if c.Once {
		m["once"], m["jti"] = true, rand.Text() // two tokens that are issued at once must differ
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, m).SignedString([]byte(secret))
}

// SignOperator returns a JWT for the operator's HTTP.
func SignOperator(secret, algorithm string, r Rights, expires time.Time) (string, error) {
	return jwt.NewWithClaims(jwt.GetSigningMethod(algorithm),
		jwt.MapClaims{"role": r.String(), "exp": expires.Unix()}).SignedString([]byte(secret))
}

// signedPrefix starts the tokens of signed URLs. They have the form
//
//	h1.ISSUED.EXPIRES.SIGNATURE        or, for one address only,
//	h1.ISSUED.EXPIRES.ip.SIGNATURE
//
// with times in seconds since 1970. SIGNATURE is the HMAC-SHA256, in unpadded base64url, of these
// lines:
//
//	livego h1
//	play, or publish
//	APP/ROOM
//	ISSUED.EXPIRES
//	the address, or nothing
//
// so that openssl can make one. The URL that contains the token says what it allows.
const signedPrefix = "h1."

// Sign returns the token of a signed URL for c. It cannot express Viewers, Once, Session and
// wildcards.
func Sign(secret string, c Claims) string {
	times := fmt.Sprintf("%d.%d", c.Issued.Unix(), c.Expires.Unix())
	ip := ""
	if c.IP.IsValid() {
		ip = ".ip"
	}
	return signedPrefix + times + ip + "." + signature(secret, c, times)
}

func signature(secret string, c Claims, times string) string {
	ip := ""
	if c.IP.IsValid() {
		ip = c.IP.String()
	}
	m := hmac.New(sha256.New, []byte(secret))
	// No part contains a newline: such names are refused before anything is signed.
	_, _ = fmt.Fprintf(m, "livego h1\n%s\n%s/%s\n%s\n%s", c.Action, c.App, c.Room, times, ip)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// verifySigned is verify for signed URLs.
func (t *tokenVerifier) verifySigned(token string, r domain.AuthRequest, addr netip.Addr, now time.Time) (Claims,
	error) {
	parts := strings.Split(strings.TrimPrefix(token, signedPrefix), ".")
	c := Claims{Action: r.Action, App: r.App, Room: r.Name}
	if len(parts) == 4 && parts[2] == "ip" {
		c.IP = addr
		parts = append(parts[:2:2], parts[3])
	}
	if len(parts) != 3 || strings.ContainsRune(r.App+r.Name, '\n') ||
		!parseSeconds(json.RawMessage(parts[0]), &c.Issued) || !parseSeconds(json.RawMessage(parts[1]), &c.Expires) {
		return Claims{}, malformed("it has the prefix of a signed URL's token, but not the form")
	}
	good := false
	for _, secret := range []string{t.opt.Secret, t.opt.Previous} {
		if secret != "" && hmac.Equal([]byte(parts[2]), []byte(signature(secret, c, parts[0]+"."+parts[1]))) {
			good = true
		}
	}
	if !good {
		return Claims{}, invalid("the signature does not match this stream, action, address and time")
	}
	return c, t.checkTimes(c, now)
}
