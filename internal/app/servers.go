package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/httpx"
	"livego/internal/ops/netx"
	"livego/internal/ops/peeruser"
)

// A webServer is an http.Server or an http1.Server.
type webServer interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

func (a *App) serverOptions() httpx.ServerOptions {
	return httpx.ServerOptions{HeaderTimeout: a.cfg.HeaderTimeout, IdleTimeout: a.cfg.IdleTimeout, Log: a.log}
}

// operatorServer returns an HTTP server for the operator's programs.
func (a *App) operatorServer(h http.Handler) *http.Server {
	srv := httpx.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, _ = a.plan.Load().proxies.WithClientAddr(r)
		h.ServeHTTP(w, r)
	}), a.serverOptions())
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		netx.SetUnsentLimit(c, netx.MaxUnsent)
		return netx.WithConn(peeruser.WithConn(ctx, netx.Socket(c)), c)
	}
	srv.ReadTimeout = 2 * a.cfg.HeaderTimeout // request bodies are small
	srv.WriteTimeout = 2 * time.Minute        // so are responses, except for profiles, which take as long as requested
	return srv
}

// checkSelf reports whether the server works, for the watchdog: the hub responds, and a request to the
// operator's HTTP is answered. It does not report what other machines cause, as /readyz does.
func (a *App) checkSelf(ctx context.Context) error {
	a.hub.Has(domain.Name{})
	l := a.apiListeners[0]
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme(l.secure)+l.Addr().String()+"/healthz", nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // it asks itself
	}}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /healthz: HTTP %d", resp.StatusCode)
	}
	return nil
}

// acmeServer returns the HTTP server for ACME HTTP-01 challenges. It is public; requests and
// responses are small.
func (a *App) acmeServer() *http.Server {
	srv := httpx.NewServer(a.acme.Handler(), a.serverOptions())
	srv.ReadTimeout, srv.WriteTimeout = 2*a.cfg.HeaderTimeout, a.cfg.WriteTimeout
	return srv
}
