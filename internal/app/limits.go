package app

import (
	"log/slog"
	"net"
	"time"

	"livego/internal/ops/config"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
)

// limiters bound the connections of a server. The operator's are apart, so that no viewer can keep the operator out.
type limiters struct{ public, operator *netx.Limiter }

func newLimiters(cfg config.Config, proxies netx.Proxies, log *slog.Logger) *limiters {
	once := logging.Limiter{Interval: time.Second}
	o := netx.LimitOptions{
		PerAddress: cfg.ConnsPerIP, Loopback: cfg.LimitLoopback, Idle: cfg.ConnIdle, Burst: cfg.ConnBurst, Proxies: proxies,
		Report: func(remote net.Addr, reason string) {
			if suppressed, ok := once.Allow(reason); ok {
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

// Shares of the descriptors of the process, of which all that is left is for viewers.
// reservedDescriptors are files that are open in any case, or for a moment: listeners, the store,
// the log, hooks, certificates.
const (
	reservedDescriptors    = 64
	shareOfRecordings      = 8  // an eighth: a file for each stream, and connections of relays
	shareOfPublishers      = 8  // as many as are recorded; more take from what viewers have
	shareOfUndecided       = 16 // RTMP that neither publishes nor plays yet: each is that only for seconds
	shareOfOperator        = 16
	minShare               = 16
	maxOperatorDescriptors = 1024
	minViewerDescriptors   = 16
	unlimitedDescriptors   = 0
)

// divideDescriptors divides n descriptors; 0 stands for any number.
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
