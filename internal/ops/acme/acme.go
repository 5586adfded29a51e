// Package acme obtains certificates from a certificate authority by ACME (RFC 8555) and renews them
// in time. It opens no listener: TLS servers request a certificate from it at each handshake.
package acme

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"livego/internal/domain"
)

// Options configure a Manager.
type Options struct {
	Domains []string
	Email   string
	CA      string // URL of the authority's directory
	Dir     string // for the account, keys and certificates; with Shared, for a copy of the certificates
	// Shared are the files of several servers, with locks by which one of them makes requests to the
	// authority for all; nil: only Dir.
	Shared domain.SharedFiles
	// HTTPPort is the port of Handler. The authority's requests to port 80 of each domain must
	// reach it.
	HTTPPort      int
	Roots         *x509.CertPool // verify the authority's own certificate; nil: the system's roots
	CheckInterval time.Duration  // interval of the checks for certificates to renew; 0: ten minutes
	Log           *slog.Logger
}

// A Manager holds certificates. Run obtains and renews them.
type Manager struct {
	opt    Options
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
}

const (
	// obtainTimeout bounds one attempt to obtain a certificate.
	obtainTimeout = 90 * time.Second
	// retryFirst and retryMax bound the pause before a failed attempt is repeated, mostly while the
	// storage is unavailable. The library makes longer pauses between requests to the authority.
	retryFirst = 2 * time.Second
	retryMax   = 10 * time.Minute
)

// New returns a Manager. It has the stored certificates once Run has been called. Close must be
// called.
func New(o Options) *Manager {
	m := &Manager{opt: o}
	// The library logs to standard error in its own format. Everything important is reported as an
	// event.
	quiet := zap.NewNop()
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		RenewCheckInterval: o.CheckInterval,
		Logger:             quiet,
	})
	c := certmagic.Config{
		Storage: &certmagic.FileStorage{Path: o.Dir}, Logger: quiet, OnEvent: m.logEvent,
		// Most authorities have dropped OCSP, and it would report viewers' connections to a third
		// party.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	}
	if o.Shared != nil {
		// LocalCache serves certificates while Shared is unavailable
		c.Storage, c.LocalCache = newStorage(o.Shared, rand.Text()), c.Storage
	}
	m.config = certmagic.New(m.cache, c)
	m.issuer = certmagic.NewACMEIssuer(m.config, certmagic.ACMEIssuer{
		CA: o.CA, Email: o.Email, Agreed: true, TrustedRoots: o.Roots, AltHTTPPort: o.HTTPPort,
		DisableTLSALPNChallenge: true, // it needs port 443, which a streaming server may share with others
		CertObtainTimeout:       obtainTimeout, Logger: quiet,
	})
	m.config.Issuers = []certmagic.Issuer{m.issuer}
	return m
}

// Handler answers the authority's HTTP challenges, also those for another server with the same
// Shared, and everything else with 404.
func (m *Manager) Handler() http.Handler {
	return m.issuer.HTTPChallengeHandler(http.NotFoundHandler())
}

// logEvent logs the library's events. Their data may hold keys: only domains and errors are used.
func (m *Manager) logEvent(_ context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtained":
		m.opt.Log.Info("certificate obtained", "domain", fmt.Sprint(data["identifier"]), "renewal",
			data["renewal"] == true)
	case "cert_failed":
		m.opt.Log.Error("cannot obtain a certificate, will retry", "domain", fmt.Sprint(data["identifier"]), "err",
			fmt.Sprint(data["error"]))
	}
	return nil
}

// GetCertificate is for tls.Config.GetCertificate.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.config.GetCertificate(hello)
}

// Run obtains missing certificates, and renews them, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	var domains sync.WaitGroup
	for _, domain := range m.opt.Domains {
		domains.Go(func() { m.manage(ctx, domain) })
	}
	domains.Wait()
	<-ctx.Done()
	m.Close()
}

// manage obtains the certificate for domain and retries until it succeeds. The library renews it
// from then on.
func (m *Manager) manage(ctx context.Context, domain string) {
	lastError := ""
	for wait := retryFirst; ; wait = min(2*wait, retryMax) {
		err := m.obtain(ctx, domain)
		if err == nil || ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != lastError {
			lastError = text
			m.opt.Log.Error("cannot obtain or renew a certificate, will retry", "domain", domain, "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// obtain loads the stored certificate, or obtains one. It waits while another server does so.
func (m *Manager) obtain(ctx context.Context, domain string) error {
	kept, err := m.config.CacheManagedCertificate(ctx, domain)
	if err != nil {
		if err = m.config.ObtainCertAsync(ctx, domain); err == nil { // Async: it never prompts at a terminal
			_, err = m.config.CacheManagedCertificate(ctx, domain)
		}
		return err
	}
	if !kept.NeedsRenewal(m.config) {
		return nil
	}
	if err := m.config.RenewCertAsync(ctx, domain, false); err != nil {
		return err
	}
	fresh, err := m.config.CacheManagedCertificate(ctx, domain)
	if err == nil && fresh.Hash() != kept.Hash() {
		m.cache.Remove([]string{kept.Hash()})
	}
	return err
}

// Close stops the background work that New started.
func (m *Manager) Close() { m.cache.Stop() }
