package config

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"livego/internal/domain"
	"livego/internal/ops/httpx"
	"livego/internal/ops/netx"
	"livego/internal/ops/ownertable"
	"livego/internal/ops/redisurl"
	"livego/internal/ops/textfile"
)

// proxyListeners are the allowed values of proxy_protocol. They are never modified.
var proxyListeners = []string{"rtmp", "rtmps", "httpflv", "hls", "https", "api"}

type problem struct{ key, text string }

// problems returns why a server cannot start with c: invalid addresses, certificate files and
// combinations of settings.
func (c Config) problems() []problem {
	var all []problem
	add := func(key, format string, args ...any) { all = append(all, problem{key, fmt.Sprintf(format, args...)}) }

	if c.RedisAddr != "" {
		if _, err := redisurl.Parse(c.RedisAddr, c.RedisPwd); err != nil {
			add("redis_addr", "%v", err)
		}
	} else if c.RedisPwd != "" {
		add("redis_pwd", "redis_addr is not set")
	}
	listeners := c.listeners()
	for i, l := range listeners {
		if err := checkAddr(l.addr); err != nil {
			add(l.key, "%v", err)
			continue
		}
		for _, other := range listeners[:i] {
			if collide(l.addr, other.addr) {
				add(l.key, "%s is already used by %s (%s)", l.addr, other.key, other.addr)
				break
			}
		}
	}
	serves := c.ServesTLS()
	if len(c.ACME.Domains) > 0 {
		if !serves {
			add("acme.domains", "no listener uses TLS: set enable_rtmps, enable_https, use_hls_https or use_api_https")
		}
		if !isSecureURL(c.ACME.CA) {
			add("acme.ca", "must be an https URL")
		}
	} else if serves {
		if _, err := tls.LoadX509KeyPair(c.RTMPSCert, c.RTMPSKey); err != nil {
			add("rtmps_cert", "cannot load the TLS certificate: %v", err)
		}
	}
	c.checkTokens(add)
	c.checkCluster(add)
	for _, a := range c.RelayAllow {
		if !isRelayTarget(a) {
			add("relay_allow", "%.64q is not an address, range or host name", a)
		}
	}
	if text := c.shortJWTSecret(); text != "" && !c.apiOnLoopback() {
		add("jwt.secret", "%s", text)
	}
	if t := c.AdminToken; t != "" &&
		(len(t) < minSecret || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' })) {
		add("admin_token", "must have at least %d characters, all of ASCII, and no spaces", minSecret)
	}
	if c.PublicURL != "" && !isBaseURL(c.PublicURL, "http", "https") {
		add("public_url", "must be an http or https URL without a user, a query or a fragment")
	}
	for _, o := range c.EmbedOrigins {
		if !isEmbedOrigin(o) {
			add("embed_origins", "%.64q is not *, and not an http or https origin such as https://www.example.com", o)
		}
	}
	if c.ReconnectURL != "" && !isBaseURL(c.ReconnectURL, "rtmp", "rtmps") {
		add("reconnect_url", "must be an rtmp or rtmps URL without a user, a query or a fragment")
	}
	if c.OTLPEndpoint != "" && !isBaseURL(c.OTLPEndpoint, "http", "https") { // the exporter would drop the rest
		add("otlp_endpoint",
			"must be an http or https URL without a user, a query or a fragment: set otlp_headers for a credential")
	}
	if _, err := ParseHeaders(c.OTLPHeaders); err != nil {
		add("otlp_headers", "%v", err)
	}
	for _, a := range c.APIAllow {
		if _, err := netx.ParseNetwork(a); err != nil {
			add("api_allow", "%v", err)
		}
	}
	if len(c.APIAllow) > 0 && c.JWT.Secret != "" {
		add("api_allow", "has no effect with jwt.secret, which requires a credential from everywhere: remove one of them")
	}
	for _, name := range c.APIAllowUsers {
		if _, err := LookupUser(name); err != nil {
			add("api_allow_users", "%v", err)
		}
	}
	for _, p := range c.TrustedProxies {
		if _, err := netx.ParseNetwork(p); err != nil {
			add("trusted_proxies", "%v", err)
		}
	}
	for _, l := range c.ProxyProtocol {
		if !slices.Contains(proxyListeners, l) {
			add("proxy_protocol", "%.64q is not one of %s", l, strings.Join(proxyListeners, ", "))
		}
	}
	if len(c.ProxyProtocol) > 0 && len(c.TrustedProxies) == 0 {
		add("proxy_protocol", "trusted_proxies is not set")
	}
	if len(c.Apps) == 0 {
		add("server", "no app is configured")
	}
	for _, a := range c.Apps {
		if err := domain.CheckApp(a.Name); err != nil {
			add("server", "%v", err)
		}
	}
	return all
}

var isHeader = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ParseHeaders parses "name=value, name=value", as in otlp_headers. The error contains no value.
func ParseHeaders(text string) (map[string]string, error) {
	headers := make(map[string]string)
	for _, pair := range splitList(text) {
		name, value, ok := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !isHeader.MatchString(name) || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, errors.New("must be name=value, separated by commas")
		}
		headers[name] = value
	}
	return headers, nil
}

// isBaseURL reports whether text is a URL of one of schemes to which a path can be appended.
func isBaseURL(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Hostname() != "" && u.User == nil &&
		u.RawQuery == "" && !u.ForceQuery &&
		!strings.Contains(text, "#")
}

// isEmbedOrigin reports whether text is a source of the directive frame-ancestors that stands for web pages: *, or a
// scheme and a host, which may begin with *. for its subdomains.
func isEmbedOrigin(text string) bool {
	if text == "*" {
		return true
	}
	scheme, host, ok := strings.Cut(text, "://")
	return ok && (scheme == "http" || scheme == "https") && host != "" &&
		httpx.CheckHost(strings.TrimPrefix(host, "*.")) == nil
}

// LookupUser returns the user ID of a system account, given by name or ID.
func LookupUser(name string) (uint32, error) {
	id := name
	if u, err := user.Lookup(name); err == nil {
		id = u.Uid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("this machine has no user %.32q", name)
	}
	return uint32(n), nil
}

// isRelayTarget reports whether a is an address, an address range or a host name.
func isRelayTarget(a string) bool {
	_, err := netx.ParseNetwork(a)
	return err == nil || a != "" && !strings.ContainsFunc(a, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// warnings returns problems with which a server can still start.
func (c Config) warnings() []string {
	var all []string
	if text := c.shortJWTSecret(); text != "" && c.apiOnLoopback() {
		all = append(all, "jwt.secret: "+text)
	}
	secrets := []struct{ key, value string }{
		{"jwt.secret", c.JWT.Secret}, {"token.secret", c.Token.Secret}, {"token.previous", c.Token.Previous},
		{"hook.secret", c.Hook.Secret},
		{"admin_token", c.AdminToken}, {"redis_pwd", c.RedisPwd},
		{"cluster_secret", c.ClusterSecret}, {"cluster_secret_previous", c.ClusterSecretPrevious},
	}
	for i, s := range secrets {
		for _, other := range secrets[:i] {
			if s.value != "" && s.value == other.value {
				all = append(all, s.key+" is the same as "+other.key+": use different secrets, so that a leak affects only one")
				break
			}
		}
	}
	return all
}

// apiOnLoopback reports whether the operator's HTTP listens on loopback only.
func (c Config) apiOnLoopback() bool {
	host, _, _ := net.SplitHostPort(c.APIAddr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// shortJWTSecret returns the problem if jwt.secret is too short, else "".
func (c Config) shortJWTSecret() string {
	if c.JWT.Secret == "" || len(c.JWT.Secret) >= minSecret {
		return ""
	}
	return fmt.Sprintf("is shorter than %d characters: it can be guessed offline from one JWT", minSecret)
}

// minSecret is the minimum length of a signing secret in characters: a shorter one can be guessed
// offline from one token.
const minSecret = 16

func (c Config) checkTokens(add func(key, format string, args ...any)) {
	for key, secret := range map[string]string{"token.secret": c.Token.Secret, "token.previous": c.Token.Previous} {
		if secret != "" && len(secret) < minSecret {
			add(key, "is shorter than %d characters", minSecret)
		}
	}
	if c.Token.PublicKey != "" {
		if _, err := LoadPublicKey(c.Token.PublicKey); err != nil {
			add("token.public_key", "%v", err)
		}
	}
	if c.Token.JWKSURL != "" && !isSecureURL(c.Token.JWKSURL) {
		add("token.jwks_url", "must be an https URL (http on this machine)")
	}
	for _, p := range c.Private {
		app, room, both := strings.Cut(p, "/")
		err := domain.CheckApp(app)
		if err == nil && both {
			err = domain.CheckRoom(room)
		}
		if p != "*" && err != nil {
			add("private", "%v", err)
		}
	}
	for key, hook := range map[string]string{"hook.on_publish": c.Hook.OnPublish, "hook.on_play": c.Hook.OnPlay,
		"hook.events": c.Hook.Events} {
		if u, err := url.Parse(hook); hook != "" &&
			(err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			add(key, "must be an http or https URL")
		}
		if hook != "" && len(c.Hook.Secret) < minSecret {
			add("hook.secret", "must have at least %d characters", minSecret)
			break
		}
	}
	if len(c.Private) > 0 && c.Token.Secret == "" && c.Token.PublicKey == "" && c.Token.JWKSURL == "" {
		add("private", "no token can be verified: set token.secret, token.public_key or token.jwks_url")
	}
}

func (c Config) checkCluster(add func(key, format string, args ...any)) {
	for key, secret := range map[string]string{"cluster_secret": c.ClusterSecret,
		"cluster_secret_previous": c.ClusterSecretPrevious} {
		if secret != "" && len(secret) < minSecret {
			add(key, "is shorter than %d characters", minSecret)
		}
	}
	if c.ClusterAddr != "" && c.ClusterSecret == "" {
		add("cluster_secret", "must be set if cluster_addr is")
	}
	if c.NodeID != "" {
		if err := domain.CheckNodeID(c.NodeID); err != nil {
			add("node_id", "%v", err)
		}
	}
	_, nodes, owners := ownertable.Parse(c.ClusterNodes, c.ClusterOwners)
	if nodes != nil {
		add("cluster_nodes", "%v", nodes)
	}
	if owners != nil {
		add("cluster_owners", "%v", owners)
	}
	if c.ClusterAddr == "" && len(c.ClusterNodes)+len(c.ClusterOwners) > 0 {
		add("cluster_addr", "must be set if cluster_nodes or cluster_owners is")
	}
}

// isSecureURL reports whether a response from the URL is authentic: by https, or from this machine.
func isSecureURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// LoadPublicKey reads an Ed25519 public key in PEM (PKIX).
func LoadPublicKey(path string) (ed25519.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if data, err = textfile.Decode(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s contains no PEM data", path)
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if key, ok := k.(ed25519.PublicKey); err == nil && ok {
		return key, nil
	}
	return nil, fmt.Errorf("%s contains no Ed25519 public key", path)
}

type listener struct{ key, addr string }

// ServesTLS reports whether any listener speaks TLS.
func (c Config) ServesTLS() bool {
	return c.EnableRTMPS || c.EnableHTTPS || c.UseHLSHTTPS || c.UseAPIHTTPS
}

// ACMEAddr returns the address for ACME challenges, as host:port.
func (c Config) ACMEAddr() string { return ":" + strconv.Itoa(c.ACME.HTTPPort) }

// listeners returns the enabled listeners.
func (c Config) listeners() []listener {
	ls := []listener{
		{"rtmp_addr", c.RTMPAddr}, {"httpflv_addr", c.HTTPFLVAddr}, {"hls_addr", c.HLSAddr}, {"api_addr", c.APIAddr},
	}
	if c.EnableRTMPS {
		ls = append(ls, listener{"rtmps_addr", c.RTMPSAddr})
	}
	if c.EnableHTTPS {
		ls = append(ls, listener{"https_addr", c.HTTPSAddr})
	}
	if c.MetricsAddr != "" {
		ls = append(ls, listener{"metrics_addr", c.MetricsAddr})
	}
	if c.ClusterAddr != "" {
		ls = append(ls, listener{"cluster_addr", c.ClusterAddr})
	}
	if len(c.ACME.Domains) > 0 {
		ls = append(ls, listener{"acme.http_port", c.ACMEAddr()})
	}
	return ls
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("invalid address %q: must be host:port or :port", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("invalid address %q: port must be from 0 to 65535", addr)
	}
	return nil
}

// collide reports whether two listeners cannot both bind their address. Port 0 is any free port.
func collide(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, err := net.SplitHostPort(b)
	return err == nil && portA == portB && portA != "0" &&
		(hostA == hostB || isWildcardHost(hostA) || isWildcardHost(hostB))
}

func isWildcardHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}
