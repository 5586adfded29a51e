package app

import (
	"log/slog"
	"net"
	"time"

	"livego/internal/config"
	"livego/internal/netx"
	"livego/internal/obs"
)

// limiters bound the connections of a server. The operator's are apart, so that no viewer can keep the operator out.
type limiters struct{ public, operator *netx.Limiter }

func newLimiters(cfg config.Config, proxies netx.Proxies, log *slog.Logger) *limiters {
	once := obs.Limiter{Interval: time.Second}
	o := netx.LimitOptions{
		PerAddress: cfg.ConnsPerIP, Loopback: cfg.LimitLoopback, Idle: cfg.ConnIdle, Burst: cfg.ConnBurst, Proxies: proxies,
		Report: func(remote net.Addr, reason string) {
			if suppressed, ok := once.Allow(reason); ok {
				log.Warn("connection refused or closed", "reason", reason, "remote", remote, "suppressed", suppressed)
			}
		},
	}
	public, operator := shares(descriptors())
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

// Shares of the descriptors of the process, of which all that is left is for viewers. ownDescriptors are files that are open in any case,
// or for a moment: listeners, the store, the log, hooks, certificates.
const (
	ownDescriptors     = 64
	shareOfRecordings  = 8  // an eighth: a file for each stream, and connections of relays
	shareOfPublishers  = 8  // as many as are recorded; more take from what viewers have
	shareOfUndecided   = 16 // RTMP that neither publishes nor plays yet: each is that only for seconds
	shareOfOperator    = 16
	leastShare         = 16
	mostOperator       = 1024
	leastForViewers    = 16
	descriptorsUnknown = 0
)

// shares divides n descriptors; 0 stands for any number.
func shares(n int) (public netx.Descriptors, operator int) {
	if n == descriptorsUnknown {
		return netx.Descriptors{}, 0
	}
	operator = min(max(n/shareOfOperator, leastShare), mostOperator)
	public.Undecided = max(n/shareOfUndecided, leastShare)
	public.Publishers = max(n/shareOfPublishers, leastShare)
	recordings := max(n/shareOfRecordings, leastShare)
	public.Viewers = max(n-ownDescriptors-operator-public.Undecided-public.Publishers-recordings, leastForViewers)
	return public, operator
}
