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
type limiters struct{ public, operator *netx.Limiter }

func newLimiters(cfg config.Config, proxies netx.Proxies, log *slog.Logger) *limiters {
	limiter := logging.Limiter{Interval: time.Second}
	o := netx.LimitOptions{
		PerAddress: cfg.ConnsPerIP, Loopback: cfg.LimitLoopback, Idle: cfg.ConnIdle, Burst: cfg.ConnBurst, Proxies: proxies,
		Report: func(remote net.Addr, reason string) {
			if suppressed, ok := limiter.Allow(reason); ok {
				log.Warn("connection refused or closed", "reason", reason, "remote", remote, "suppressed", suppressed)
			}
		},
	}
	var operator netx.Descriptors
	o.Descriptors, operator = netx.DivideDescriptors()
	l := &limiters{public: netx.NewLimiter(o)}
	o.Descriptors = operator
	l.operator = netx.NewLimiter(o)
	return l
}

func (l *limiters) close() {
	l.public.Close()
	l.operator.Close()
}
