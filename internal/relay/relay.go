// Package relay moves streams between this server and others: it pushes what is live here, and
// publishes here what it pulls. A relay is a subscriber or a publisher like any other, and comes
// back when the other end is lost. The package guards where relays may go. It knows no HTTP of the
// operator's and no settings file.
package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"livego/internal/domain"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

const (
	minBackoff  = time.Second
	maxBackoff  = 30 * time.Second // between two attempts
	stableAfter = 10 * time.Second // of running, what was before is forgotten
	reportAfter = 3                // failures in a row are told of: one restart of the other end makes fewer
)

// Options of a Manager. What has no remark must be set.
type Options struct {
	Max          int                     // relays that Start may have at a time
	Allow        []string                // private addresses, ranges and names that Start may go to
	OwnListeners []net.Addr              // of this server's listeners, where no relay may go
	VerifyTLS    bool                    // check the certificates of others
	Conn         rtmp.Options            // of connections by RTMP
	ReadTimeout  time.Duration           // the longest time without a frame of what is pulled
	Static       map[string][]string     // where each stream of an app is pushed to, up to the room
	Admit        func(domain.Name) error // why nothing new may be pulled at present, nil where it may
	Failed       func(domain.RelayStatus)
	Log          *slog.Logger
}

// A Manager has the relays of a server.
type Manager struct {
	hub    *stream.Hub
	opt    Options
	dialer *dialer

	events       <-chan stream.Event // nil without Static
	missedEvents func() uint64
	unobserve    func()

	running sync.WaitGroup
	mu      sync.Mutex
	relays  map[domain.Relay]*relay
	closed  bool
}

// A relay is one that was asked for.
type relay struct {
	domain.Relay
	target   *target
	static   bool // it ends with its stream
	cancel   context.CancelFunc
	log      *slog.Logger
	logPanic sync.Once // the first is logged

	// Under Manager.mu.
	status    domain.RelayStatus
	sub       *stream.Subscriber // what is pushed, nil while nothing is
	restarted bool               // of a static one: its stream has begun anew
}

// New returns a Manager without relays. Run must be called for what Options.Static asks for, and
// Close in any case. The error names what is wrong in Options.Static.
func New(hub *stream.Hub, o Options) (*Manager, error) {
	for app, bases := range o.Static {
		for i, base := range bases {
			if _, err := staticTarget(base, "room"); err != nil {
				return nil, fmt.Errorf("static_push of %s, entry %d: %w", app, i+1, err)
			}
		}
	}
	m := &Manager{hub: hub, opt: o, dialer: newDialer(o.Allow, o.OwnListeners, o.VerifyTLS),
		relays: map[domain.Relay]*relay{}, unobserve: func() {}}
	if len(o.Static) > 0 {
		const waiting = 1024
		m.events, m.missedEvents, m.unobserve = hub.Observe(waiting, false)
	}
	return m, nil
}

// Start begins w, and returns its URL as it may be shown. The other end is connected to once
// before, for some seconds at most. Errors are of kind Invalid, Denied (relays may not go there),
// Conflict (there is such a relay), Limit or Unavailable (the other end does not answer).
func (m *Manager) Start(ctx context.Context, w domain.Relay) (shown string, err error) {
	to, err := parseTarget(w.Direction, w.URL, false)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	r, ctx, err := m.add(ctx, w, to, false)
	m.mu.Unlock()
	if err != nil {
		return "", err
	}
	nc, err := m.dialer.dial(ctx, to.address(), to.rtmp.TLS, false)
	if err == nil {
		nc.Close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.relays[w] != r || m.closed:
		return "", domain.Errorf(domain.Conflict, "the relay was stopped meanwhile")
	case err == nil:
		m.launch(r)
		return to.redacted, nil
	}
	r.cancel()
	delete(m.relays, w)
	if domain.KindOf(err) == domain.Internal {
		err = domain.Errorf(domain.Unavailable, "the other end cannot be reached: %s", to.redactError(describeEOF(err)))
	}
	return "", err
}

// add notes a relay. The context that it returns ends with ctx and when the relay is stopped;
// launch gives the relay one of its own. Caller holds m.mu.
func (m *Manager) add(ctx context.Context, w domain.Relay, to *target, static bool) (*relay, context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &relay{Relay: w, target: to, static: static, cancel: cancel,
		log: m.opt.Log.With("relay", w.Direction, "stream", w.Name.String(), "url", to.redacted)}
	r.status = domain.RelayStatus{
		Direction: w.Direction, App: w.Name.App, Room: w.Name.Room, URL: to.redacted, Static: static, State: stateConnecting,
		Since: time.Now(),
	}
	var err error
	switch old := m.relays[w]; {
	case m.closed:
		err = domain.Errorf(domain.Unavailable, "the server is stopping")
	case old != nil:
		old.restarted = true
		err = domain.Errorf(domain.Conflict, "there is such a relay already")
	case !static && m.count() >= m.opt.Max:
		err = domain.Errorf(domain.Limit, "there are %d relays, which is as many as may be (relay_max)", m.opt.Max)
	default:
		m.relays[w] = r
		return r, ctx, nil
	}
	cancel()
	return nil, nil, err
}

// count returns how many relays there are by Start. Caller holds m.mu.
func (m *Manager) count() (n int) {
	for _, r := range m.relays {
		if !r.static {
			n++
		}
	}
	return n
}

// launch runs r. Caller holds m.mu.
func (m *Manager) launch(r *relay) {
	r.cancel()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	m.running.Go(func() { m.run(ctx, r) })
}

// remove forgets r.
func (m *Manager) remove(r *relay) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.cancel()
	if m.relays[r.Relay] == r {
		delete(m.relays, r.Relay)
	}
}

// Stop ends w, with a goodbye to the other end, and returns its URL as it may be shown. NotFound
// when there is no such relay.
func (m *Manager) Stop(w domain.Relay) (shown string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.relays[w]
	if r == nil {
		return "", domain.Errorf(domain.NotFound, "there is no such relay")
	}
	r.cancel()
	delete(m.relays, w)
	return r.target.redacted, nil
}

// List returns what is known of all relays, ordered by stream, direction and URL.
func (m *Manager) List() []domain.RelayStatus {
	m.mu.Lock()
	list, subs := make([]domain.RelayStatus, 0, len(m.relays)), make([]*stream.Subscriber, 0, len(m.relays))
	for _, r := range m.relays {
		list, subs = append(list, r.status), append(subs, r.sub)
	}
	m.mu.Unlock()
	for i := range list {
		s := &list[i]
		if isStable(*s) {
			s.Attempts, s.Error = 0, ""
		}
		if sub := subs[i]; sub != nil {
			s.DelayMS, s.Skips = sub.Delay().Milliseconds(), sub.Skips()
		}
	}
	slices.SortFunc(list, func(a, b domain.RelayStatus) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Room, b.Room), cmp.Compare(a.Direction, b.Direction),
			cmp.Compare(a.URL, b.URL))
	})
	return list
}

// Close ends all relays, with a goodbye to the other ends, and waits for them.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	for _, r := range m.relays {
		r.cancel()
	}
	m.mu.Unlock()
	m.unobserve()
	m.running.Wait()
}

// Run pushes each stream of Options.Static while it is live, until ctx ends or the Manager is closed.
func (m *Manager) Run(ctx context.Context) {
	lost := uint64(0)
	for m.events != nil {
		select {
		case e, ok := <-m.events:
			if !ok {
				return
			}
			if e.Type == stream.Started {
				m.pushStatic(e.Name)
			}
			if n := m.missedEvents(); n != lost { // a beginning may have been among them
				lost = n
				for _, in := range m.hub.Snapshot() {
					m.pushStatic(in.Name)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// pushStatic pushes a stream where the settings say.
func (m *Manager) pushStatic(name domain.Name) {
	for _, base := range m.opt.Static[name.App] {
		to, err := staticTarget(base, name.Room)
		if err != nil { // New has tried it
			m.opt.Log.Error("static_push", "stream", name.String(), "err", err)
			continue
		}
		m.mu.Lock()
		r, _, err := m.add(context.Background(), domain.Relay{Direction: domain.Push, Name: name, URL: to.u.String()}, to,
			true)
		if err == nil { // else it is there, or all is over
			m.launch(r)
		}
		m.mu.Unlock()
	}
}

// States of a relay.
const (
	stateWaiting    = "waiting"
	stateConnecting = "connecting"
	stateRunning    = "running"
	stateFailed     = "failed"
)

// errStreamEnded is how an attempt ends whose stream has ended here.
var errStreamEnded = errors.New("the stream has ended")

// run tries until ctx ends, or of a static relay the stream.
func (m *Manager) run(ctx context.Context, r *relay) {
	defer m.remove(r)
	attempt := m.push
	if r.Direction == domain.Pull {
		attempt = m.pull
	}
	pause := minBackoff
	for ctx.Err() == nil {
		err := r.runAttempt(ctx, attempt)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errStreamEnded):
			if m.streamEnded(r) {
				return
			}
			continue
		}
		if m.recordFailure(r, err) == 1 {
			pause = minBackoff
		}
		sleep(ctx, pause/2+rand.N(pause/2)) //nolint:forbidigo // jitter, no secret
		pause = min(2*pause, maxBackoff)
	}
}

// errPanic is how an attempt ends that panicked.
var errPanic = errors.New("internal error in the relay, see the log")

// runAttempt makes an attempt. A panic ends it as an error does: what the other end sends must not end the server.
func (r *relay) runAttempt(ctx context.Context, attempt func(context.Context, *relay) error) (err error) {
	defer r.recoverTo(func(e error) { err = e })
	return attempt(ctx, r)
}

// recoverTo makes an error of a panic, and logs the first one of r. To be deferred.
func (r *relay) recoverTo(end func(error)) {
	if v := recover(); v != nil {
		r.logPanic.Do(func() { r.log.Error("panic", "panic", v, "stack", string(debug.Stack())) })
		end(errPanic)
	}
}

// streamEnded notes that the stream of r has ended. It reports whether r has too: a static one
// whose stream has not begun anew since, and that is forgotten now.
func (m *Manager) streamEnded(r *relay) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.status.State == stateRunning {
		r.status.Attempts, r.status.Error = 0, ""
	}
	if !r.static || r.restarted {
		r.restarted = false
		return false
	}
	if m.relays[r.Relay] == r {
		delete(m.relays, r.Relay)
	}
	return true
}

// recordFailure notes that an attempt failed, and returns how many have in a row.
func (m *Manager) recordFailure(r *relay, err error) int {
	reason := r.target.redactError(err)
	m.mu.Lock()
	s := &r.status
	if isStable(*s) {
		s.Attempts = 0
	}
	s.Attempts++
	s.Error, s.State, s.Since = reason, stateFailed, time.Now()
	status := *s
	m.mu.Unlock()
	if status.Attempts == 1 {
		r.log.Warn("relay failed", "reason", reason)
	}
	if status.Attempts == reportAfter {
		r.log.Warn("relay keeps failing", "attempts", status.Attempts, "reason", reason)
		m.opt.Failed(status)
	}
	return status.Attempts
}

// isStable reports whether a relay has run for so long that what was before is forgotten.
func isStable(s domain.RelayStatus) bool {
	return s.State == stateRunning && time.Since(s.Since) >= stableAfter
}

// setState notes the state of r.
func (m *Manager) setState(r *relay, state string) {
	m.mu.Lock()
	r.status.State, r.status.Since = state, time.Now()
	m.mu.Unlock()
	if state == stateRunning {
		r.log.Info("relay runs")
	}
}

// setSubscriber notes what r pushes, nil for nothing any more.
func (m *Manager) setSubscriber(r *relay, sub *stream.Subscriber) {
	m.mu.Lock()
	r.sub = sub
	m.mu.Unlock()
}

// failureCount returns how many attempts have failed in a row.
func (m *Manager) failureCount(r *relay) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return r.status.Attempts
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
