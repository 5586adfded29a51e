// Package acme gets certificates from an authority by ACME (RFC 8555) and renews them in time. It knows no listener: who serves TLS
// asks it for a certificate at each handshake.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Options say for what, and from whom.
type Options struct {
	Domains  []string
	Email    string
	CA       string         // the URL of the authority's directory
	Dir      string         // where account, keys and certificates are kept
	HTTPPort int            // where the authority asks, by HTTP: it comes to port 80 of each domain
	Roots    *x509.CertPool // that the authority's own certificate is checked by; nil: the system's
	Log      *slog.Logger
}

// A Manager has certificates. Run gets them.
type Manager struct {
	opt    Options
	cache  *certmagic.Cache
	config *certmagic.Config
}

// obtainTimeout bounds one try to get a certificate.
const obtainTimeout = 90 * time.Second

// New returns a Manager with what Dir holds from before, once Run has been called. Close must be called.
func New(o Options) *Manager {
	m := &Manager{opt: o}
	// The library's own lines have a form of their own, on standard error. What matters comes as events.
	quiet := zap.NewNop()
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		Logger:           quiet,
	})
	m.config = certmagic.New(m.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: o.Dir}, Logger: quiet, OnEvent: m.note,
		OCSP: certmagic.OCSPConfig{DisableStapling: true}, // most authorities have given OCSP up, and no one is asked on a viewer's account
	})
	m.config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(m.config, certmagic.ACMEIssuer{
		CA: o.CA, Email: o.Email, Agreed: true, TrustedRoots: o.Roots, AltHTTPPort: o.HTTPPort,
		DisableTLSALPNChallenge: true, // it takes port 443, which a server of streams shares with others
		CertObtainTimeout:       obtainTimeout, Logger: quiet,
	})}
	return m
}

// note logs what the library tells. Its data may hold keys: only the names of domains and errors are taken from it.
func (m *Manager) note(_ context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtained":
		m.opt.Log.Info("a certificate was obtained", "domain", fmt.Sprint(data["identifier"]), "renewal", data["renewal"] == true)
	case "cert_failed":
		m.opt.Log.Error("no certificate was obtained; it is tried again", "domain", fmt.Sprint(data["identifier"]), "err", fmt.Sprint(data["error"]))
	}
	return nil
}

// Get is for tls.Config.GetCertificate.
func (m *Manager) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.config.GetCertificate(hello)
}

// Run gets certificates where there are none, and renews them, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	if err := m.config.ManageAsync(ctx, m.opt.Domains); err != nil {
		m.opt.Log.Error("certificates cannot be managed", "err", err)
	}
	<-ctx.Done()
	m.Close()
}

// Close ends what New began.
func (m *Manager) Close() { m.cache.Stop() }
