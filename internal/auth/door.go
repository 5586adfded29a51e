package auth

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"livego/internal/live"
	"livego/internal/textfile"
)

// TokenFile is the name of the file in the data directory that holds the admin token.
const TokenFile = "admin.token"

// maxCredential bounds what is looked at of a credential, in bytes.
const maxCredential = 4 << 10

// DoorOptions configure a Door.
type DoorOptions struct {
	Hosts        []string // further host names that requests from loopback may be addressed to
	JWTSecret    string   // "" for no JWTs; with one, requests from loopback need a credential too
	JWTAlgorithm string   // HS256, HS384 or HS512

	Failures      int // refused credentials a minute and address, as in Options
	LimitLoopback bool
}

// Door guards the operator's HTTP. From loopback a request needs no credential, only proof that no foreign page sent it. From
// anywhere else, through a proxy, and always when there is a JWT secret, it needs the admin token or a JWT.
type Door struct {
	hosts    []string
	token    [32]byte // live.Digest of the admin token
	secret   []byte
	parser   *jwt.Parser
	failures failures
}

// OpenDoor reads the admin token from dir, making token, file (mode 0600) and dir (0700) when they are absent.
func OpenDoor(dir string, o DoorOptions) (*Door, error) {
	token, err := loadToken(filepath.Join(dir, TokenFile))
	if err != nil {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	return &Door{
		hosts:  o.Hosts,
		token:  live.Digest(token),
		secret: []byte(o.JWTSecret),
		// One algorithm, chosen here: a token does not choose how it is checked (RFC 8725, 3.1).
		parser:   jwt.NewParser(jwt.WithValidMethods([]string{o.JWTAlgorithm}), jwt.WithLeeway(30*time.Second)),
		failures: failures{limit: o.Failures, loopback: o.LimitLoopback},
	}, nil
}

func loadToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(path)
	}
	if err != nil {
		return "", err
	}
	if data, err = textfile.Decode(data); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	token := strings.TrimSpace(string(data))
	if !live.LooksLikeKey(token) {
		return "", fmt.Errorf("%s does not hold %d letters and digits: remove it, and a new one is made", path, live.KeyLength)
	}
	return token, nil
}

// makeToken writes a new token under another name first, so that a crash leaves no half of it.
func makeToken(path string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(path), TokenFile+".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all is well
	token := live.NewSecret()
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	return token, os.Rename(f.Name(), path)
}

// Check returns nil when r may be served with what need stands for. Otherwise it returns an Error of kind Denied, in one text for
// every bad credential and with ErrRights in its chain for a good one, or Invalid when r carries two different credentials. An
// address that has failed too often waits here. From this machine, without a credential, everything is allowed.
//
// A credential comes as "Authorization: Bearer T" or as the query's jwt=T. A request that a proxy on this machine has passed on
// says so in X-Forwarded-For, Forwarded (RFC 7239) or the like, and then counts as one from outside; what these headers claim is
// never believed. A proxy that sets none of them cannot be told from a person here: behind one, set a JWT secret.
func (d *Door) Check(r *http.Request, need Rights) error {
	if err := checkOrigin(r); err != nil {
		return err
	}
	credential, err := credentialOf(r)
	if err != nil {
		return err
	}
	if credential == "" && len(d.secret) == 0 && local(r) {
		return d.checkHost(r)
	}
	addr := client(r.RemoteAddr)
	d.failures.wait(r.Context(), addr)
	if has := d.opens(credential); has != 0 {
		if has < need {
			return notEnough(has, need)
		}
		return nil
	}
	if credential != "" { // who has shown nothing has not guessed
		d.failures.add(addr)
	}
	return live.Errorf(live.Denied, "this needs a credential: the admin token (file %s of the data directory) or a JWT, as Authorization: Bearer", TokenFile)
}

// opens returns what credential allows: the admin token everything, a JWT what its claim role says, and everything without one;
// 0 when it is not good.
func (d *Door) opens(credential string) Rights {
	if len(credential) > maxCredential {
		return 0
	}
	digest := live.Digest(credential)
	if subtle.ConstantTimeCompare(digest[:], d.token[:]) == 1 {
		return Admin
	}
	if len(d.secret) == 0 {
		return 0
	}
	var claims doorClaims
	_, err := d.parser.ParseWithClaims(credential, &claims, func(t *jwt.Token) (any, error) {
		// An extension that must be understood, and is not (RFC 7515, 4.1.11).
		if _, ok := t.Header["crit"]; ok {
			return nil, errors.New("crit")
		}
		return d.secret, nil
	})
	if err != nil || claims.Action != nil || claims.Room != nil { // a token to publish or play manages nothing, whatever signed it
		return 0
	}
	if claims.Role == nil {
		return Admin
	}
	has, _ := ParseRights(*claims.Role)
	return has
}

// doorClaims are what is looked at in a JWT for the operator's HTTP.
type doorClaims struct {
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
		return "", live.Errorf(live.Invalid, "the request carries two different credentials")
	}
	if len(all) == 0 {
		return "", nil
	}
	return all[0], nil
}

// local reports whether r comes from this machine, and not through a proxy on it.
func local(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(h)) > 0 {
			return false
		}
	}
	return true
}

// checkOrigin refuses what a browser sends for a page of another site. Browsers of the last years say so in Sec-Fetch-Site;
// "same-site" is another server on the same host.
func checkOrigin(r *http.Request) error {
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "none" && site != "same-origin" {
		return live.Errorf(live.Denied, "the request comes from another site's page")
	}
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		u, err := url.Parse(origins[0])
		if err != nil || len(origins) > 1 || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return live.Errorf(live.Denied, "the request comes from another site's page")
		}
	}
	return nil
}

// checkHost refuses requests that were addressed to a name that is not ours: a foreign page whose name was pointed to this
// machine after it was loaded (DNS rebinding) is of one origin with us for the browser, but still sends its own name.
func (d *Door) checkHost(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || slices.ContainsFunc(d.hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && ip.IsLoopback() {
		return nil
	}
	return live.Errorf(live.Denied, "the operator's interface does not answer to this host name: add it to api_hosts")
}
