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
	public, operator := divideDescriptors(descriptorLimit())
	o.Descriptors = public
	l := &limiters{public: netx.NewLimiter(o)}
	o.Descriptors = netx.Descriptors{Viewers: operator}
	l.operator = netx.NewLimiter(o)
	return l
}

func (l *limiters) close() {
	l.public.Close()
	l.operator.Close()
}

// Shares of the process's file descriptors; viewers get the rest. reservedDescriptors is for files
// that are always open or open briefly: listeners, the store, the log, webhooks, certificates.
const (
	reservedDescriptors    = 64
	shareOfRecordings      = 8  // an eighth: one file for each stream, and connections of relays
	shareOfPublishers      = 8  // as many as recordings; further publishers use the viewers' share
	shareOfUndecided       = 16 // RTMP connections that neither publish nor play yet, which takes seconds
	shareOfOperator        = 16
	minShare               = 16
	maxOperatorDescriptors = 1024
	minViewerDescriptors   = 16
	unlimitedDescriptors   = 0
)

// divideDescriptors divides n descriptors; n 0 means no limit.
func divideDescriptors(n int) (public netx.Descriptors, operator int) {
	if n == unlimitedDescriptors {
		return netx.Descriptors{}, 0
	}
	operator = min(max(n/shareOfOperator, minShare), maxOperatorDescriptors)
	public.Undecided = max(n/shareOfUndecided, minShare)
	public.Publishers = max(n/shareOfPublishers, minShare)
	recordings := max(n/shareOfRecordings, minShare)
	public.Viewers = max(n-reservedDescriptors-operator-public.Undecided-public.Publishers-recordings,
		minViewerDescriptors)
	return public, operator
}
