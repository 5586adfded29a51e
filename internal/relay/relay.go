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
	"math"
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
	File         string                   // where persistent relays are stored; "": nowhere, and none persist
	Max          int                      // limit of relays from Start and Create
	Allow        []string                 // private addresses, ranges and names that they may connect to
	OwnListeners []net.Addr               // addresses of this server's listeners, to which no relay may connect
	VerifyTLS    bool                     // verify TLS certificates
	Conn         rtmp.Options             // options of RTMP connections
	ReadTimeout  time.Duration            // longest time without a frame on a pull
	Static       map[string][]string      // push URLs by app, without the room
	Authorizer   domain.Authorizer        // authorizes pulls to publish
	CheckApp     func(app string) error   // returns why an app may have no relays from Start and Create; may be nil
	Failed       func(domain.RelayStatus) // called once for a relay that keeps failing; may be nil
	Event        func(domain.Event)       // called for each event; must not block; may be nil
	Log          *slog.Logger
}

// A Manager runs the relays of a server.
type Manager struct {
	hub *stream.Hub
	opt atomic.Pointer[options]

	running   sync.WaitGroup
	setStatic chan struct{} // has an element if Options.Static may have changed
	saving    chan struct{} // has an element while the file is written
	restored  []*relay      // relays of the file that wait for Run

	mu           sync.Mutex
	relays       map[domain.Relay]*relay
	closed       bool
	version      uint64            // counts the changes of persistent relays
	savedVersion uint64            // of the file
	failed       map[string]uint64 // see Failures
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
	created  time.Time
	meter    stream.Meter    // of the media sent or received; its time counts from created
	live     *stream.Session // what a relay from Options.Static pushes; nil for others
	cancel   context.CancelFunc
	log      *slog.Logger
	logPanic sync.Once // logs the first panic only

	// Guarded by Manager.mu.
	status domain.RelayStatus
	sub    *stream.Subscriber // the pushed stream, nil if none
}

// New returns a Manager with the relays of Options.File. The caller must call Run, which starts them,
// and Close in any case. The error describes an invalid entry of Options.Static, or an invalid file.
func New(hub *stream.Hub, o Options) (*Manager, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	m := &Manager{hub: hub, relays: map[domain.Relay]*relay{}, setStatic: make(chan struct{}, 1),
		saving: make(chan struct{}, 1), failed: map[string]uint64{domain.Push: 0, domain.Pull: 0}}
	m.SetOptions(o)
	return m, m.restore()
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
	err = m.probe(ctx, to)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.relays[w] != r || m.closed:
		return "", errStopped
	case err == nil:
		m.launch(r)
		return to.redacted, nil
	}
	r.cancel()
	delete(m.relays, w)
	if domain.KindOf(err) == domain.Internal {
		err = domain.Errorf(domain.Unavailable, "cannot connect to the remote server: %s", to.redactError(err))
	}
	return "", err
}

var (
	errStopped = domain.Errorf(domain.Conflict, "the relay was stopped while it started")
	errNoRelay = domain.Errorf(domain.NotFound, "there is no such relay")
)

// probe connects to the remote server and closes the connection.
func (m *Manager) probe(ctx context.Context, to *target) error {
	nc, err := m.options().dialer.dial(ctx, to.address(), to.rtmp.TLS, false)
	if err == nil {
		nc.Close()
	}
	return describeEOF(err)
}

// newRelay returns a relay that is not registered.
func (m *Manager) newRelay(ctx context.Context, w domain.Relay, to *target, live *stream.Session) (*relay,
	context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	now := time.Now()
	return &relay{Relay: w, target: to, created: now, live: live, cancel: cancel,
		log: m.options().Log.With("relay", w.Direction, "stream", w.Name.String(), "url", to.redacted),
		status: domain.RelayStatus{
			ID: newID(), Direction: w.Direction, App: w.Name.App, Room: w.Name.Room, URL: to.redacted, Static: live != nil,
			State: stateConnecting, Since: now,
		}}, ctx
}

// add registers a relay. The returned context ends with ctx and when the relay is stopped; launch
// replaces it with one that is independent of ctx. The caller holds m.mu.
func (m *Manager) add(ctx context.Context, w domain.Relay, to *target, live *stream.Session) (*relay, context.Context,
	error) {
	r, ctx := m.newRelay(ctx, w, to, live)
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
	r.cancel()
	return nil, nil, err
}

// count returns the number of relays that are not from Options.Static. The caller holds m.mu.
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
	r := m.relays[w]
	m.mu.Unlock()
	if r == nil {
		return "", errNoRelay
	}
	return r.target.redacted, m.discard(r)
}

// List returns the status of all relays, ordered by stream, direction and URL.
func (m *Manager) List() []domain.RelayStatus {
	m.mu.Lock()
	relays := slices.Collect(maps.Values(m.relays))
	m.mu.Unlock()
	list := make([]domain.RelayStatus, len(relays))
	for i, r := range relays {
		list[i] = m.statusOf(r)
	}
	slices.SortFunc(list, func(a, b domain.RelayStatus) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Room, b.Room), cmp.Compare(a.Direction, b.Direction),
			cmp.Compare(a.URL, b.URL), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Failures returns how many attempts of relays have failed so far, by direction.
func (m *Manager) Failures() map[string]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.failed)
}

// statusOf returns the status of r.
func (m *Manager) statusOf(r *relay) domain.RelayStatus {
	m.mu.Lock()
	s, sub := r.status, r.sub
	m.mu.Unlock()
	if isStable(s) {
		s.Attempts, s.Error = 0, ""
	}
	if sub != nil {
		s.DelayMS, s.Skips = sub.Delay().Milliseconds(), sub.Skips()
	}
	s.Since, s.Bytes = s.Since.UTC(), r.meter.Total()
	s.Bitrate = uint64(math.Round(r.meter.Kbps(time.Since(r.created))))
	return s
}

// observeBytes counts bytes of media that were sent or received. One goroutine at a time may call it.
func (r *relay) observeBytes(n int) { r.meter.Add(n, time.Since(r.created)) }

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

// Run starts the relays of Options.File. It pushes each stream of Options.Static while it is live,
// until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	m.startRestored()
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
	m.emit(r, domain.EventRelayStarted)
	defer func() {
		m.remove(r)
		m.emit(r, domain.EventRelayStopped)
	}()
	pause := minBackoff
	for ctx.Err() == nil {
		err := r.runAttempt(ctx, m.attempt)
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

// attempt connects r once, and relays the stream until it ends or the connection is lost.
func (m *Manager) attempt(ctx context.Context, r *relay) error {
	if err := m.checkAllowed(ctx, r); err != nil {
		return err
	}
	if r.Direction == domain.Pull {
		return m.pull(ctx, r)
	}
	return m.push(ctx, r)
}

// checkAllowed returns why r may not run now, also while there is no stream to push. A relay of
// Options.Static always may.
func (m *Manager) checkAllowed(ctx context.Context, r *relay) error {
	o := m.options()
	if r.live != nil || r.target.invalid != nil {
		return r.target.invalid
	}
	if o.CheckApp != nil {
		if err := o.CheckApp(r.Name.App); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host := r.target.u.Hostname()
	if err := o.dialer.checkHost(ctx, host, o.dialer.allowsHost(host)); domain.KindOf(err) == domain.Denied {
		return err
	}
	return nil
}

// emit reports an event of r.
func (m *Manager) emit(r *relay, t domain.EventType) {
	if m.options().Event != nil {
		m.options().Event(m.statusOf(r).Event(t))
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
		m.emit(r, domain.EventRelayFailed)
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
		m.emit(r, domain.EventRelayConnected)
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
