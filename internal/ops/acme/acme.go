// Package acme gets certificates from an authority by ACME (RFC 8555) and renews them in time. It
// knows no listener: who serves TLS asks it for a certificate at each handshake.
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
)

// Options say for what, and from whom.
type Options struct {
	Domains []string
	Email   string
	CA      string // the URL of the authority's directory
	Dir     string // where account, keys and certificates are kept; with Shared a copy of the certificates
	Shared  Shared // where several servers keep them; nil for Dir alone
	// where Handler is served: the authority comes to port 80 of each domain, which leads here
	HTTPPort      int
	Roots         *x509.CertPool // that the authority's own certificate is checked by; nil: the system's
	CheckInterval time.Duration  // how often it is looked whether one is to be renewed; 0: every ten minutes
	Log           *slog.Logger
}

// A Manager has certificates. Run gets them.
type Manager struct {
	opt    Options
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
}

const (
	// obtainTimeout bounds one try to get a certificate.
	obtainTimeout = 90 * time.Second
	// retryFirst and retryMax are how long is waited before what failed is begun anew: while the store
	// is away, mostly. Between the questions to the authority the library waits longer.
	retryFirst = 2 * time.Second
	retryMax   = 10 * time.Minute
)

// New returns a Manager with what is kept from before, once Run has been called. Close must be called.
func New(o Options) *Manager {
	m := &Manager{opt: o}
	// The library's own lines have a form of their own, on standard error. What matters comes as events.
	quiet := zap.NewNop()
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		RenewCheckInterval: o.CheckInterval,
		Logger:             quiet,
	})
	c := certmagic.Config{
		Storage: &certmagic.FileStorage{Path: o.Dir}, Logger: quiet, OnEvent: m.logEvent,
		// most authorities have given OCSP up, and no one is asked on a viewer's account
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	}
	if o.Shared != nil {
		c.Storage, c.LocalCache = newStorage(o.Shared, rand.Text()), c.Storage // by the copy it serves while Shared is away
	}
	m.config = certmagic.New(m.cache, c)
	m.issuer = certmagic.NewACMEIssuer(m.config, certmagic.ACMEIssuer{
		CA: o.CA, Email: o.Email, Agreed: true, TrustedRoots: o.Roots, AltHTTPPort: o.HTTPPort,
		DisableTLSALPNChallenge: true, // it takes port 443, which a server of streams shares with others
		CertObtainTimeout:       obtainTimeout, Logger: quiet,
	})
	m.config.Issuers = []certmagic.Issuer{m.issuer}
	return m
}

// Handler answers the questions of the authority, those that it asks on behalf of another server
// with the same Shared too, and everything else by 404.
func (m *Manager) Handler() http.Handler {
	return m.issuer.HTTPChallengeHandler(http.NotFoundHandler())
}

// logEvent logs what the library tells. Its data may hold keys: only the names of domains and errors are taken from it.
func (m *Manager) logEvent(_ context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtained":
		m.opt.Log.Info("a certificate was obtained", "domain", fmt.Sprint(data["identifier"]), "renewal",
			data["renewal"] == true)
	case "cert_failed":
		m.opt.Log.Error("no certificate was obtained; it is tried again", "domain", fmt.Sprint(data["identifier"]), "err",
			fmt.Sprint(data["error"]))
	}
	return nil
}

// GetCertificate is for tls.Config.GetCertificate.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.config.GetCertificate(hello)
}

// Run gets certificates where there are none, and renews them, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	var domains sync.WaitGroup
	for _, domain := range m.opt.Domains {
		domains.Go(func() { m.manage(ctx, domain) })
	}
	domains.Wait()
	<-ctx.Done()
	m.Close()
}

// manage sees to it that there is a certificate for domain. The library keeps it fresh from then on.
func (m *Manager) manage(ctx context.Context, domain string) {
	said := ""
	for wait := retryFirst; ; wait = min(2*wait, retryMax) {
		err := m.obtain(ctx, domain)
		if err == nil || ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != said {
			said = text
			m.opt.Log.Error("a certificate cannot be had or renewed; it is tried again", "domain", domain, "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// obtain takes the certificate that is kept, or gets one. It waits while another server does.
func (m *Manager) obtain(ctx context.Context, domain string) error {
	kept, err := m.config.CacheManagedCertificate(ctx, domain)
	if err != nil {
		if err = m.config.ObtainCertAsync(ctx, domain); err == nil { // Async: nobody is asked at a terminal
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

// Close ends what New began.
func (m *Manager) Close() { m.cache.Stop() }
