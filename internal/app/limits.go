package app

import (
	"log/slog"
	"net"
	"time"

	"livego/internal/ops/config"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
)

// limiters bound the connections of a server. The operator's connections have their own limiter, so
// that viewers cannot lock the operator out.
type limiters struct {
	public, operator *netx.Limiter
	report           func(remote net.Addr, reason string)
}

func newLimiters(cfg config.Config, proxies netx.Proxies, log *slog.Logger) *limiters {
	limiter := &logging.Limiter{Interval: time.Second}
	report := func(remote net.Addr, reason string) {
		if suppressed, ok := limiter.Allow(reason); ok {
			log.Warn("connection refused or closed", "reason", reason, "remote", remote, "suppressed", suppressed)
		}
	}
	public, operator := limitOptions(cfg, proxies, report)
	return &limiters{netx.NewLimiter(public), netx.NewLimiter(operator), report}
}

// set replaces the limits.
func (l *limiters) set(cfg config.Config, proxies netx.Proxies) {
	public, operator := limitOptions(cfg, proxies, l.report)
	l.public.SetOptions(public)
	l.operator.SetOptions(operator)
}

func limitOptions(cfg config.Config, proxies netx.Proxies, report func(net.Addr, string)) (public,
	operator netx.LimitOptions) {
	public = netx.LimitOptions{
		PerAddress: cfg.ConnsPerIP, Loopback: cfg.LimitLoopback, Idle: cfg.ConnIdle, Burst: cfg.ConnBurst, Proxies: proxies,
		Report: report,
	}
	operator = public
	public.Descriptors, operator.Descriptors = netx.DivideDescriptors()
	return public, operator
}

func (l *limiters) close() {
	l.public.Close()
	l.operator.Close()
}
