package webhook

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/stream"
)

const (
	// maxBatch is the number of events in one request.
	maxBatch = 100
	// maxWaitingEvents is how many events wait to be written to disk. More are lost, since a stream
	// must not wait. Those of viewers are lost first: they may use half of the places.
	maxWaitingEvents = 4096
	// maxExtraEvents is the same for events of other parts of the server, which are rare.
	maxExtraEvents = 256
	// retryFirst and retryMax bound the pause between two deliveries to a receiver that fails.
	retryFirst = time.Second
	retryMax   = time.Minute
	// aliveInterval is how often stream.live is sent for a live stream: a receiver that missed the
	// end of a stream learns of it so.
	aliveInterval = time.Minute
)

// OutboxOptions configure an Outbox.
type OutboxOptions struct {
	URL           string
	Secret        string // signs requests
	Dir           string // where undelivered events are stored
	Viewers       bool   // send events of viewers too
	Timeout       time.Duration
	AliveInterval time.Duration // how often stream.live is sent for a live stream; 0: every minute
	Log           *slog.Logger
}

// An Outbox delivers the events of a hub to a URL: in order, at least once, from a queue on disk.
type Outbox struct {
	hub   *stream.Hub
	opt   atomic.Pointer[outboxOptions]
	queue *diskQueue

	events    <-chan stream.Event
	lost      func() uint64
	stop      func()
	live      chan domain.Name // streams for which stream.live is due
	extra     chan Event       // from other parts of the server than the hub
	extraLost atomic.Uint64

	// For OutboxStatistics.
	requests                   *requestCounter
	delivered, lostTotal       atomic.Uint64
	queueBytes, waitingSinceNS atomic.Int64
}

// OutboxStatistics describe an Outbox at one moment. Counts are since the start of the server.
type OutboxStatistics struct {
	RequestStatistics
	QueueBytes      int64     // of events that are not delivered
	WaitingSince    time.Time // when the oldest event that is being delivered happened; zero: there is none
	Delivered, Lost uint64    // events that the receiver accepted or refused for good, and those lost before
}

// Statistics returns the current state.
func (o *Outbox) Statistics() OutboxStatistics {
	s := OutboxStatistics{RequestStatistics: o.requests.statistics(), QueueBytes: o.queueBytes.Load(),
		Delivered: o.delivered.Load(), Lost: o.lostTotal.Load()}
	if ns := o.waitingSinceNS.Load(); ns != 0 {
		s.WaitingSince = time.Unix(0, ns)
	}
	return s
}

// outboxOptions are the OutboxOptions in use, and what is made from them.
type outboxOptions struct {
	OutboxOptions
	client *client
}

// SetOptions replaces the options from the next event and request on, except Dir and AliveInterval.
func (o *Outbox) SetOptions(opt OutboxOptions) {
	opt.AliveInterval = cmp.Or(opt.AliveInterval, aliveInterval)
	next := &outboxOptions{OutboxOptions: opt}
	old := o.options()
	if old != nil && old.Secret == opt.Secret && old.Timeout == opt.Timeout {
		next.client = old.client
	} else {
		next.client = newClient(opt.Secret, opt.Timeout)
	}
	o.opt.Store(next)
	o.hub.IncludeViewers(o.events, opt.Viewers)
	if old != nil && old.client != next.client {
		old.client.http.CloseIdleConnections()
	}
}

func (o *Outbox) options() *outboxOptions { return o.opt.Load() }

// OpenOutbox opens the queue in o.Dir, which it creates when absent, and starts to observe hub. Run
// must be called.
func OpenOutbox(hub *stream.Hub, o OutboxOptions) (*Outbox, error) {
	b, err := openQueue(o.Dir)
	if err != nil {
		return nil, err
	}
	out := &Outbox{hub: hub, queue: b, live: make(chan domain.Name), extra: make(chan Event, maxExtraEvents),
		requests: newRequestCounter()}
	out.SetOptions(o)
	out.queueBytes.Store(b.undeliveredSize())
	out.events, out.lost, out.stop = hub.Observe(maxWaitingEvents, o.Viewers)
	return out, nil
}

// Run stores and delivers events until ctx ends, and closes the queue. Events that are left then
// are delivered after the next start.
func (o *Outbox) Run(ctx context.Context) {
	events, lost := o.events, o.lost
	missed := uint64(0)
	defer func() {
		o.stop()
		o.addStreamEvents(receiveAll(events), lost()-missed)
		for range len(o.extra) {
			o.add([]Event{<-o.extra}, 0)
		}
		if err := o.queue.close(); err != nil {
			o.options().Log.Error("cannot close the webhook outbox", "err", err)
		}
		o.options().client.http.CloseIdleConnections()
	}()
	// The queue belongs to this goroutine; the sender has one batch at a time.
	type batch struct {
		id     string
		events []Event
	}
	send, done := make(chan batch), make(chan struct{})
	sent := make(chan bool, 1) // whether the batch was delivered
	var inFlight position      // the end of the batch in flight
	busy := false
	go func() {
		defer close(done)
		for b := range send {
			sent <- o.deliver(ctx, b.id, b.events)
		}
	}()
	defer func() {
		close(send)
		<-done
		if busy && <-sent {
			o.markDelivered(inFlight)
		}
	}()
	defer o.hub.Supervise(ctx, stream.Consumer{Name: "webhook", Run: o.requestLive, Log: o.options().Log})()
	for {
		if !busy {
			list, end, err := o.queue.next(maxBatch, time.Now())
			if err != nil {
				o.options().Log.Error("cannot read the webhook outbox: event delivery is delayed", "err", err)
			}
			if len(list) == 0 && end != o.queue.position() { // only expired events
				o.markDelivered(end)
			}
			if len(list) > 0 {
				inFlight, busy = end, true
				o.waitingSinceNS.Store(list[0].At.UnixNano())
				send <- batch{newID(), list} // the sender is idle
			}
		}
		select {
		case e := <-events:
			all := append([]stream.Event{e}, receiveAll(events)...)
			o.addStreamEvents(all, lost()-missed)
			missed = lost()
		case e := <-o.extra:
			o.add([]Event{e}, o.extraLost.Swap(0))
		case ok := <-sent:
			if busy = false; ok {
				o.markDelivered(inFlight)
				o.waitingSinceNS.Store(0)
			}
		case name := <-o.live:
			due := append([]domain.Name{name}, receiveAll(o.live)...)
			// Events come first, so that the state that is read after them is not older than they are.
			o.addStreamEvents(receiveAll(events), lost()-missed)
			missed = lost()
			o.add(o.liveEvents(due), 0)
		case <-ctx.Done():
			return
		}
	}
}

// RelayFailed adds the event that a relay keeps failing. It never blocks.
func (o *Outbox) RelayFailed(s domain.RelayStatus) {
	name := domain.Name{App: s.App, Room: s.Room}
	o.addExtra(Event{ID: newID(), Type: "relay.failed", Stream: name.String(), At: s.Since.UTC(),
		Relay: &Relay{s.Direction, s.URL, s.Error, s.Attempts}})
}

// RecordingFinished adds the event that a recording's file was closed. It never blocks.
func (o *Outbox) RecordingFinished(r domain.Recording) {
	o.addExtra(Event{ID: newID(), Type: "recording.finished", Stream: r.Name.String(), At: time.Now().UTC(),
		Recording: &Recording{
			File: r.File, Started: r.Started, Bytes: r.Bytes, Duration: r.Duration.Seconds(), Gaps: r.Gaps, Reason: r.Reason,
			Error: r.Error[:min(len(r.Error), domain.MaxName)],
		}})
}

// addExtra adds an event that does not come from the hub.
func (o *Outbox) addExtra(e Event) {
	select {
	case o.extra <- e:
	default:
		o.extraLost.Add(1)
	}
}

func (o *Outbox) markDelivered(p position) {
	if err := o.queue.markDelivered(p); err != nil {
		o.options().Log.Error(
			"cannot write the position of the webhook outbox: events may be delivered again after a restart", "err", err)
	}
	o.queueBytes.Store(o.queue.undeliveredSize())
}

// receiveAll returns what waits in c.
func receiveAll[T any](c <-chan T) (all []T) {
	for len(all) < maxWaitingEvents {
		select {
		case e := <-c:
			all = append(all, e)
		default:
			return all
		}
	}
	return all
}

// addStreamEvents adds events to the queue; lost is how many were lost before.
func (o *Outbox) addStreamEvents(events []stream.Event, lost uint64) {
	var list []Event
	for _, e := range events {
		if t := eventType(e.Type); t != "" {
			list = append(list, Event{ID: newID(), Type: t, Stream: e.Name.String(), At: e.At.UTC(), Viewer: e.Viewer})
		}
	}
	o.add(list, lost)
}

// requestLive requests stream.live for a session at each AliveInterval.
func (o *Outbox) requestLive(ctx context.Context, s *stream.Session) error {
	for s.Sleep(ctx, o.options().AliveInterval) {
		select {
		case o.live <- s.Name():
		case <-ctx.Done():
		}
	}
	return nil
}

// liveEvents returns a stream.live event for each of the streams that has a publisher.
func (o *Outbox) liveEvents(due []domain.Name) (list []Event) {
	for _, name := range due {
		if in, ok := o.hub.Info(name); ok && !in.Held {
			list = append(list, Event{ID: newID(), Type: typeLive, Stream: name.String(), At: time.Now().UTC()})
		}
	}
	return list
}

// add adds events to the queue; lost is how many were lost before.
func (o *Outbox) add(list []Event, lost uint64) {
	if err := o.queue.add(list); err != nil {
		o.options().Log.Error("cannot write to the webhook outbox: events may be lost", "err", err)
	}
	o.queueBytes.Store(o.queue.undeliveredSize())
	if n := uint64(o.queue.resetLost()) + lost; n > 0 {
		o.lostTotal.Add(n)
		o.options().Log.Warn("webhook events lost: the receiver or the disk is unavailable or too slow", "events", n)
	}
}

// eventType returns the event's name in webhooks; "" for one that is not sent.
func eventType(t stream.EventType) string {
	switch t {
	case stream.Started, stream.Held, stream.Resumed, stream.Ended:
		return "stream." + t.String()
	case stream.Joined, stream.Left:
		return "viewer." + t.String()
	}
	return ""
}

// deliver sends events until the receiver accepts them by any 2xx status. A 4xx status means that
// it never will, except 401, 403, 404, 408 and 429, which are retried. It returns false when ctx
// ends before.
func (o *Outbox) deliver(ctx context.Context, id string, events []Event) bool {
	body := mustJSON(struct {
		Events []Event `json:"events"`
	}{events})
	pause := retryFirst
	for ctx.Err() == nil {
		start := time.Now()
		opt := o.options()
		answer, err := opt.client.post(ctx, opt.URL, id, body)
		status := answer.status
		o.requests.observe(start, err == nil && status/100 == 2)
		switch {
		case err == nil && status/100 == 2:
			o.delivered.Add(uint64(len(events)))
			return true
		case err == nil && status/100 == 4 && status != 401 && status != 403 && status != 404 && status != 408 &&
			status != 429:
			o.delivered.Add(uint64(len(events)))
			o.options().Log.Warn("events refused by the receiver", "status", status, "events", len(events))
			return true
		case ctx.Err() == nil:
			o.options().Log.Warn("cannot deliver events", "status", status, "err", err, "retry_in", pause)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:forbidigo // jitter, no secret
		case <-ctx.Done():
		}
		pause = min(2*pause, retryMax)
	}
	return false
}
