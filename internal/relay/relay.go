// Package relay connects streams of this server with other servers: it pushes streams that are
// live here, and publishes here streams that it pulls. A relay is a subscriber or a publisher
// like any other, and reconnects when the connection is lost. The package checks where relays may
// connect to. It knows neither the operator's HTTP nor the settings file.
package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

const (
	minBackoff  = time.Second
	maxBackoff  = 30 * time.Second // longest pause between two attempts
	stableAfter = 10 * time.Second // running time after which earlier failures are forgotten
	reportAfter = 3                // failures in a row that are reported: a restart of the remote server causes fewer
)

// Options of a Manager. Fields are required unless their comment says otherwise.
type Options struct {
	Max          int                      // limit of relays from Start
	Allow        []string                 // private addresses, ranges and names that Start may connect to
	OwnListeners []net.Addr               // addresses of this server's listeners, to which no relay may connect
	VerifyTLS    bool                     // verify TLS certificates
	Conn         rtmp.Options             // options of RTMP connections
	ReadTimeout  time.Duration            // longest time without a frame on a pull
	Static       map[string][]string      // push URLs by app, without the room
	Authorizer   domain.Authorizer        // authorizes pulls to publish
	Failed       func(domain.RelayStatus) // called once for a relay that keeps failing; may be nil
	Log          *slog.Logger
}

// A Manager runs the relays of a server.
type Manager struct {
	hub *stream.Hub
	opt atomic.Pointer[options]

	running   sync.WaitGroup
	setStatic chan struct{} // has an element if Options.Static may have changed
	mu        sync.Mutex
	relays    map[domain.Relay]*relay
	closed    bool
	failed    map[string]uint64 // see Failures
}

// options are the Options in use, and what is made from them.
type options struct {
	Options
	dialer *dialer
}

// A relay is one push or pull.
type relay struct {
	domain.Relay
	target   *target
	live     *stream.Session // what a relay from Options.Static pushes; nil for others
	cancel   context.CancelFunc
	log      *slog.Logger
	logPanic sync.Once // logs the first panic only

	// Guarded by Manager.mu.
	status domain.RelayStatus
	sub    *stream.Subscriber // the pushed stream, nil if none
}

// New returns a Manager without relays. The caller must call Run if Options.Static is not empty,
// and Close in any case. The error describes an invalid entry of Options.Static.
func New(hub *stream.Hub, o Options) (*Manager, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	m := &Manager{hub: hub, relays: map[domain.Relay]*relay{}, setStatic: make(chan struct{}, 1),
		failed: map[string]uint64{domain.Push: 0, domain.Pull: 0}}
	m.SetOptions(o)
	return m, nil
}

// Check returns an error that describes an invalid entry of Static, if there is one.
func (o *Options) Check() error {
	for app, bases := range o.Static {
		for i, base := range bases {
			if _, err := staticTarget(base, "room"); err != nil {
				return fmt.Errorf("static_push of %s, entry %d: %w", app, i+1, err)
			}
		}
	}
	return nil
}

// SetOptions replaces the options, which Check has accepted. Relays that run stay connected, except
// those of Options.Static that are no longer there; others start with their next attempt to use the
// new options.
func (m *Manager) SetOptions(o Options) {
	m.opt.Store(&options{o, newDialer(o.Allow, o.OwnListeners, o.VerifyTLS)})
	select {
	case m.setStatic <- struct{}{}:
	default:
	}
}

func (m *Manager) options() *options { return m.opt.Load() }

// Start starts relay w and returns its redacted URL. It first connects to the remote server once,
// for some seconds at most. Errors have kind Invalid, Denied (the address is forbidden), Conflict
// (the relay exists), Limit or Unavailable (the remote server does not respond).
func (m *Manager) Start(ctx context.Context, w domain.Relay) (shown string, err error) {
	to, err := parseTarget(w.Direction, w.URL, false)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	r, ctx, err := m.add(ctx, w, to, nil)
	m.mu.Unlock()
	if err != nil {
		return "", err
	}
	nc, err := m.options().dialer.dial(ctx, to.address(), to.rtmp.TLS, false)
	if err == nil {
		nc.Close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.relays[w] != r || m.closed:
		return "", domain.Errorf(domain.Conflict, "the relay was stopped while it started")
	case err == nil:
		m.launch(r)
		return to.redacted, nil
	}
	r.cancel()
	delete(m.relays, w)
	if domain.KindOf(err) == domain.Internal {
		err = domain.Errorf(domain.Unavailable, "cannot connect to the remote server: %s", to.redactError(describeEOF(err)))
	}
	return "", err
}

// add registers a relay. The returned context ends with ctx and when the relay is stopped; launch
// replaces it with one that is independent of ctx. The caller holds m.mu.
func (m *Manager) add(ctx context.Context, w domain.Relay, to *target, live *stream.Session) (*relay, context.Context,
	error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &relay{Relay: w, target: to, live: live, cancel: cancel,
		log: m.options().Log.With("relay", w.Direction, "stream", w.Name.String(), "url", to.redacted)}
	r.status = domain.RelayStatus{
		Direction: w.Direction, App: w.Name.App, Room: w.Name.Room, URL: to.redacted, Static: live != nil,
		State: stateConnecting, Since: time.Now(),
	}
	var err error
	switch {
	case m.closed:
		err = domain.Errorf(domain.Unavailable, "the server is stopping")
	case m.relays[w] != nil:
		err = domain.Errorf(domain.Conflict, "the relay already exists")
	case live == nil && m.count() >= m.options().Max:
		err = domain.Errorf(domain.Limit, "relay limit reached (relay_max: %d)", m.options().Max)
	default:
		m.relays[w] = r
		return r, ctx, nil
	}
	cancel()
	return nil, nil, err
}

// count returns the number of relays from Start. The caller holds m.mu.
func (m *Manager) count() (n int) {
	for _, r := range m.relays {
		if r.live == nil {
			n++
		}
	}
	return n
}

// launch runs r in a goroutine. The caller holds m.mu.
func (m *Manager) launch(r *relay) {
	r.cancel()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	m.running.Go(func() { m.run(ctx, r) })
}

// remove stops and unregisters r.
func (m *Manager) remove(r *relay) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.cancel()
	if m.relays[r.Relay] == r {
		delete(m.relays, r.Relay)
	}
}

// Stop stops relay w, ends its stream on the remote server, and returns its redacted URL. It
// returns NotFound if there is no such relay.
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

// List returns the status of all relays, ordered by stream, direction and URL.
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

// Failures returns how many attempts of relays have failed so far, by direction.
func (m *Manager) Failures() map[string]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.failed)
}

// Close stops all relays, ends their streams on the remote servers, and waits for them.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	for _, r := range m.relays {
		r.cancel()
	}
	m.mu.Unlock()
	m.running.Wait()
}

// A staticPush is an entry of Options.Static.
type staticPush struct{ app, base string }

// Run pushes each stream of Options.Static while it is live, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	running := map[staticPush]func(){} // the functions stop a push and wait for it
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	for {
		wanted := map[staticPush]bool{}
		for app, bases := range m.options().Static {
			for _, base := range bases {
				wanted[staticPush{app, base}] = true
			}
		}
		for p, stop := range running {
			if !wanted[p] {
				stop()
				delete(running, p)
			}
		}
		for p := range wanted {
			if running[p] == nil {
				running[p] = m.startStatic(ctx, p)
			}
		}
		select {
		case <-m.setStatic:
		case <-ctx.Done():
			return
		}
	}
}

// startStatic starts to push the streams of an app. stop ends that and waits.
func (m *Manager) startStatic(ctx context.Context, p staticPush) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	run := func(ctx context.Context, live *stream.Session) error {
		if live.Name().App != p.app {
			return nil
		}
		return m.pushStatic(ctx, live, p.base)
	}
	wait := m.hub.Supervise(ctx, stream.Consumer{Name: "static push", Run: run, Log: m.options().Log})
	return func() {
		cancel()
		wait()
	}
}

// pushStatic pushes a session of a stream to a URL of Options.Static.
func (m *Manager) pushStatic(ctx context.Context, live *stream.Session, base string) error {
	to, err := staticTarget(base, live.Name().Room)
	if err != nil {
		return err
	}
	m.mu.Lock()
	r, ctx, err := m.add(ctx, domain.Relay{Direction: domain.Push, Name: live.Name(), URL: to.u.String()}, to, live)
	if err != nil {
		m.mu.Unlock()
		return nil // the relay exists or the server is stopping
	}
	m.running.Add(1) // under m.mu, so that Close, which has set closed, may wait
	m.mu.Unlock()
	defer m.running.Done()
	m.run(ctx, r)
	return nil
}

// States of a relay.
const (
	stateWaiting    = "waiting"
	stateConnecting = "connecting"
	stateRunning    = "running"
	stateFailed     = "failed"
)

// errStreamEnded ends an attempt whose stream has ended on this server.
var errStreamEnded = errors.New("the stream has ended")

// run makes attempts until ctx ends or, for a static relay, its stream.
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
		case errors.Is(err, errStreamEnded) && r.live != nil:
			return
		case errors.Is(err, errStreamEnded):
			m.recordStreamEnd(r)
			continue
		}
		if m.recordFailure(r, err) == 1 {
			pause = minBackoff
		}
		r.sleep(ctx, pause/2+rand.N(pause/2)) //nolint:forbidigo // jitter, no secret
		pause = min(2*pause, maxBackoff)
	}
}

// errPanic ends an attempt that panicked.
var errPanic = errors.New("internal error in the relay, see the log")

// runAttempt makes an attempt. A panic in it becomes an error: input from the remote server must
// not end the process.
func (r *relay) runAttempt(ctx context.Context, attempt func(context.Context, *relay) error) (err error) {
	defer r.recoverTo(func(e error) { err = e })
	return attempt(ctx, r)
}

// recoverTo turns a panic into an error, and logs the first one of r. It must be deferred.
func (r *relay) recoverTo(end func(error)) {
	if v := recover(); v != nil {
		r.logPanic.Do(func() { r.log.Error("panic", "panic", v, "stack", string(debug.Stack())) })
		end(errPanic)
	}
}

// recordStreamEnd records that the stream of r has ended.
func (m *Manager) recordStreamEnd(r *relay) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.status.State == stateRunning {
		r.status.Attempts, r.status.Error = 0, ""
	}
}

// recordFailure records that an attempt failed, and returns the number of failures in a row.
func (m *Manager) recordFailure(r *relay, err error) int {
	reason := r.target.redactError(err)
	m.mu.Lock()
	s := &r.status
	if isStable(*s) {
		s.Attempts = 0
	}
	s.Attempts++
	s.Error, s.State, s.Since = reason, stateFailed, time.Now()
	m.failed[r.Direction]++
	status := *s
	m.mu.Unlock()
	if status.Attempts == 1 {
		r.log.Warn("relay failed", "reason", reason)
	}
	if status.Attempts == reportAfter {
		r.log.Warn("relay keeps failing", "attempts", status.Attempts, "reason", reason)
		if failed := m.options().Failed; failed != nil {
			failed(status)
		}
	}
	return status.Attempts
}

// isStable reports whether a relay has run for so long that earlier failures are forgotten.
func isStable(s domain.RelayStatus) bool {
	return s.State == stateRunning && time.Since(s.Since) >= stableAfter
}

// setState sets the state of r.
func (m *Manager) setState(r *relay, state string) {
	m.mu.Lock()
	r.status.State, r.status.Since = state, time.Now()
	m.mu.Unlock()
	if state == stateRunning {
		r.log.Info("relay running")
	}
}

// setSubscriber sets the subscriber of a push, nil for none.
func (m *Manager) setSubscriber(r *relay, sub *stream.Subscriber) {
	m.mu.Lock()
	r.sub = sub
	m.mu.Unlock()
}

// failureCount returns the number of failures in a row.
func (m *Manager) failureCount(r *relay) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return r.status.Attempts
}

// sleep waits for d, or until ctx or the stream of a static relay ends.
func (r *relay) sleep(ctx context.Context, d time.Duration) {
	if r.live != nil {
		r.live.Sleep(ctx, d)
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
