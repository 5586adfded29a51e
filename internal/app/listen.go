package app

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"livego/internal/ops/config"
	"livego/internal/ops/netx"
	"livego/internal/ops/systemd"
)

// A listener is a bound listener and the name of its service.
type listener struct {
	net.Listener
	service string
	secure  bool // speaks TLS
	// staysOpen reports that systemd has the socket too: connections wait for the next process.
	staysOpen bool
}

func (l listener) String() string { return l.service + " on " + l.Addr().String() }

// listeners are all listeners of a server, bound.
type listeners struct {
	rtmpListeners, viewerListeners, apiListeners, metricsListeners, acmeListeners, clusterListeners []listener
}

func (ls *listeners) all() []listener {
	return slices.Concat(ls.rtmpListeners, ls.viewerListeners, ls.apiListeners, ls.metricsListeners,
		ls.acmeListeners, ls.clusterListeners)
}

func (ls *listeners) close() {
	for _, l := range ls.all() {
		l.Close()
	}
}

// bind binds the listeners of cfg, or takes over their sockets from systemd; cert is for those that
// speak TLS. The error names the protocol, the setting and the address.
func (ls *listeners) bind(cfg config.Config, cert *tls.Config, limits *limiters) error {
	passed, err := systemd.PassedSockets()
	if err != nil {
		return err
	}
	defer passed.Close()
	for _, l := range []struct {
		to        *[]listener
		on        bool
		what, key string
		addr      string
		tls, http bool
		limiter   *netx.Limiter
		use       netx.Use
	}{
		{&ls.rtmpListeners, true, "RTMP", "rtmp_addr", cfg.RTMPAddr, false, false, limits.public, netx.ForEncoders},
		{&ls.rtmpListeners, cfg.EnableRTMPS, "RTMPS", "rtmps_addr", cfg.RTMPSAddr, true, false, limits.public,
			netx.ForEncoders},
		{&ls.viewerListeners, true, "HTTP-FLV", "httpflv_addr", cfg.HTTPFLVAddr, false, true, limits.public, netx.ForViewers},
		{&ls.viewerListeners, true, "HLS", "hls_addr", cfg.HLSAddr, cfg.UseHLSHTTPS, true, limits.public, netx.ForViewers},
		{&ls.viewerListeners, cfg.EnableHTTPS, "HTTPS", "https_addr", cfg.HTTPSAddr, true, true, limits.public,
			netx.ForViewers},
		{&ls.apiListeners, true, "operator's HTTP", "api_addr", cfg.APIAddr, cfg.UseAPIHTTPS, true, limits.operator,
			netx.ForViewers},
		{&ls.metricsListeners, cfg.MetricsAddr != "", "metrics", "metrics_addr", cfg.MetricsAddr, false, true,
			limits.operator, netx.ForViewers},
		{&ls.acmeListeners, len(cfg.ACME.Domains) > 0, "ACME", "acme.http_port", cfg.ACMEAddr(), false, true, limits.public,
			netx.ForViewers},
		// No limit by address: many streams may come from one node. Those before the proof are limited there.
		{&ls.clusterListeners, cfg.ClusterAddr != "", "cluster", "cluster_addr", cfg.ClusterAddr, false, false, nil, 0},
	} {
		if !l.on {
			continue
		}
		name := strings.TrimSuffix(l.key, "_addr")
		ln := passed.Listener(name, l.addr)
		staysOpen := ln != nil
		if !staysOpen {
			if ln, err = net.Listen("tcp", l.addr); err != nil {
				return fmt.Errorf("%s: %s %s: %w", l.what, l.key, l.addr, err)
			}
		}
		if l.limiter != nil {
			ln = l.limiter.Listen(ln, netx.ListenOptions{
				Use: l.use, HeaderTimeout: cfg.HandshakeTimeout,
				ProxyProtocol: slices.Contains(cfg.ProxyProtocol, name),
			})
		}
		if l.tls {
			c := cert.Clone()
			if l.http {
				c.NextProtos = append([]string{"h2", "http/1.1"}, c.NextProtos...)
			}
			ln = netx.ListenTLS(ln, c)
		}
		*l.to = append(*l.to, listener{ln, l.what, l.tls, staysOpen})
	}
	return passed.CheckUsed()
}
