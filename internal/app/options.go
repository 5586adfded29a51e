package app

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"livego/internal/control/api"
	"livego/internal/control/auth"
	"livego/internal/domain"
	"livego/internal/edge/viewerhttp"
	"livego/internal/ops/acme"
	"livego/internal/ops/config"
	"livego/internal/ops/netx"
	"livego/internal/proto/rtmp"
	"livego/internal/record"
	"livego/internal/relay"
)

// tlsConfig returns the configuration of the TLS listeners, nil if there are none.
func (a *App) tlsConfig() *tls.Config {
	if !a.cfg.ServesTLS() {
		return nil
	}
	// Media leaves in large pieces: small records at the start would only cost time.
	c := &tls.Config{MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if a.acme != nil { // set before the first connection is served, as the plan is
			return a.acme.GetCertificate(hello)
		}
		return a.plan.Load().cert.Get(hello)
	}
	return c
}

// newACME returns the manager of ACME certificates. Servers with one store share them.
func (a *App) newACME() *acme.Manager {
	c := a.cfg.ACME
	return acme.New(acme.Options{
		Domains: c.Domains, Email: c.Email, CA: c.CA, HTTPPort: c.HTTPPort, Dir: filepath.Join(a.cfg.DataDir, "acme"),
		Shared: a.store.Files(), Log: a.log,
	})
}

// tokenOptions returns how tokens are verified. It reads the key files. before is the JWKS in use, nil
// for none.
func (a *App) tokenOptions(cfg config.Config, before *auth.JWKS) (auth.TokenOptions, error) {
	t := cfg.Token
	o := auth.TokenOptions{
		Secret: t.Secret, Previous: t.Previous, Issuer: t.Issuer, Audience: t.Audience, MaxAge: t.MaxAge, Viewers: t.Viewers,
		Session: t.Session,
	}
	if t.PublicKey != "" {
		key, err := config.LoadPublicKey(t.PublicKey)
		if err != nil {
			return o, fmt.Errorf("token.public_key: %w", err)
		}
		o.Public = key
	}
	switch {
	case t.JWKSURL == "":
	case before != nil && before.URL() == t.JWKSURL:
		o.JWKS = before
	default:
		o.JWKS = auth.NewJWKS(t.JWKSURL, a.log)
	}
	return o, nil
}

// openAdminAuth returns the authenticator of the operator's HTTP. It has the state of before, unless
// that is nil.
func openAdminAuth(cfg config.Config, before *auth.AdminAuth) (_ *auth.AdminAuth, err error) {
	o := auth.AdminOptions{
		Hosts: cfg.APIHosts, JWTSecret: cfg.JWT.Secret, JWTAlgorithm: cfg.JWT.Algorithm, JWTStrict: cfg.JWT.Strict,
		AdminToken: cfg.AdminToken, SessionTime: cfg.APISession, Failures: cfg.AuthFailures, LimitLoopback: cfg.LimitLoopback,
	}
	if o.Allow, err = netx.ParseNetworks(cfg.APIAllow); err != nil {
		return nil, fmt.Errorf("api_allow: %w", err)
	}
	for _, name := range cfg.APIAllowUsers {
		uid, err := config.LookupUser(name)
		if err != nil {
			return nil, fmt.Errorf("api_allow_users: %w", err)
		}
		o.AllowUsers = append(o.AllowUsers, uid)
	}
	if before != nil {
		return before.With(cfg.DataDir, o)
	}
	return auth.NewAdminAuth(cfg.DataDir, o)
}

// relayOptions returns the options of the relay manager.
func (a *App) relayOptions(cfg config.Config) relay.Options {
	o := relay.Options{
		Max: cfg.RelayMax, Allow: cfg.RelayAllow, VerifyTLS: cfg.EnableTLSVerify, ReadTimeout: cfg.ReadTimeout,
		Static: map[string][]string{}, Log: a.log,
		Authorizer: a.pulls,
		Conn: rtmp.Options{HandshakeTimeout: cfg.HandshakeTimeout, WriteTimeout: cfg.WriteTimeout,
			MaxMessage: int(cfg.MaxMessage)},
		File: filepath.Join(cfg.DataDir, "relays.json"), CheckApp: relayCheck(apiApps(cfg.Apps)),
		Failed: a.relayFailed, Event: a.events.Add,
	}
	for _, l := range a.all() {
		o.OwnListeners = append(o.OwnListeners, l.Addr())
	}
	for _, app := range cfg.Apps {
		if len(app.StaticPush) > 0 && app.Live {
			o.Static[app.Name] = app.StaticPush
		}
	}
	return o
}

// maxMove is how long encoders may take to move to reconnect_url.
const maxMove = 5 * time.Second

// shutdownTimes divides shutdown_timeout into shutdown_delay, the time for encoders to move to
// reconnect_url, and the time for streams to end.
func shutdownTimes(cfg config.Config) (delay, move, drain time.Duration) {
	delay = min(cfg.ShutdownDelay, cfg.ShutdownTimeout)
	drain = cfg.ShutdownTimeout - delay
	if cfg.ReconnectURL != "" {
		move = min(maxMove, drain/2)
	}
	return delay, move, drain - move
}

// relayCheck returns a function that returns why an app may have no relays.
func relayCheck(apps []api.App) func(string) error {
	return func(name string) error {
		i := slices.IndexFunc(apps, func(a api.App) bool { return a.Name == name })
		switch {
		case i < 0:
			return domain.Errorf(domain.NotFound, "app %q is not configured", name)
		case !apps[i].Relays:
			return domain.Errorf(domain.Denied, "relays are disabled for app %q (api: false)", name)
		}
		return nil
	}
}

func recordLimits(cfg config.Config) record.Limits {
	return record.Limits{Keep: cfg.RecordKeep, KeepBytes: int64(cfg.RecordKeepSize),
		MinFree: record.Space{Bytes: int64(cfg.RecordMinFree.Size), Percent: cfg.RecordMinFree.Percent}}
}

// displayAddr returns addr as a user of this machine types it.
func displayAddr(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func scheme(secure bool) string {
	if secure {
		return "https://"
	}
	return "http://"
}

// baseURL returns the base URL of a listener, "" if it is off.
func baseURL(on bool, scheme, addr string) string {
	if !on {
		return ""
	}
	return scheme + addr
}

func takeover(policy string) domain.Takeover {
	switch policy {
	case "always":
		return domain.TakeoverAlways
	case "never":
		return domain.TakeoverNever
	}
	return domain.TakeoverIdle
}

func authApps(apps []config.App) map[string]bool {
	m := make(map[string]bool, len(apps))
	for _, app := range apps {
		m[app.Name] = app.Live
	}
	return m
}

func apiApps(apps []config.App) []api.App {
	var list []api.App
	for _, app := range apps {
		if app.Live {
			list = append(list, api.App{Name: app.Name, FLV: app.FLV, HLS: app.HLS, Relays: app.API})
		}
	}
	return list
}

func viewerApps(apps []config.App) map[string]viewerhttp.App {
	m := make(map[string]viewerhttp.App, len(apps))
	for _, app := range apps {
		m[app.Name] = viewerhttp.App{FLV: app.FLV, HLS: app.HLS}
	}
	return m
}
