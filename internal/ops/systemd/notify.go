package systemd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A Notifier reports the state of the service to systemd (sd_notify(3)).
type Notifier struct{ Log *slog.Logger }

// Ready reports that the service has started, or that it has reloaded its settings.
func (n Notifier) Ready() { n.notify(daemon.SdNotifyReady) }

// Reloading reports that the service loads its settings again. Ready must follow.
func (n Notifier) Reloading() {
	n.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping reports that the service stops, and will have stopped within limit.
func (n Notifier) Stopping(limit time.Duration) {
	n.notify(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, limit.Microseconds()))
}

func (n Notifier) notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	if err := send(name, state); err != nil {
		n.Log.Error("cannot notify systemd", "err", err)
	}
}

// sendTimeout is how long a receiver that does not read may delay a reload or a shutdown.
const sendTimeout = 500 * time.Millisecond

// send sends state to the socket. daemon.SdNotify would wait without a limit while its queue is full.
func send(name, state string) error {
	c, err := net.Dial("unixgram", name)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(sendTimeout)) // a new socket accepts it
	_, err = io.WriteString(c, state)
	return err
}

// checksPerPeriod is how often the service is checked in the time after which systemd restarts it.
const checksPerPeriod = 3

// Watchdog calls check regularly until ctx ends, and reports to systemd that the service works while
// check returns nil in time. Otherwise systemd restarts the service after WatchdogSec. It returns at
// once if the unit has no WatchdogSec.
func (n Notifier) Watchdog(ctx context.Context, check func(context.Context) error) {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.Log.Error("cannot read the watchdog settings of systemd", "err", err)
	}
	if period <= 0 {
		return
	}
	again := time.NewTicker(period / checksPerPeriod)
	defer again.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, period/checksPerPeriod)
		err := check(limited)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			n.Log.Error("self-check failed: systemd restarts a service that fails for WatchdogSec", "err", err)
		default:
			n.notify(daemon.SdNotifyWatchdog)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}
