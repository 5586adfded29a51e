package webhook

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/stream"
)

const (
	// maxBatch is how many events one request brings.
	maxBatch = 100
	// maxWaitingEvents is how many events wait for the disk. More are lost: a stream waits for
	// nothing. Those of viewers are lost first, since they have half of the places.
	maxWaitingEvents = 4096
	// maxExtraEvents is the same for what other parts of the server tell, which is rare.
	maxExtraEvents = 256
	// retryFirst and retryMax are how long one that takes no events is left alone.
	retryFirst = time.Second
	retryMax   = time.Minute
	// aliveInterval is how often a stream that goes on is told of: who missed its end learns of it so.
	aliveInterval = time.Minute
)

// OutboxOptions say where events go.
type OutboxOptions struct {
	URL           string
	Secret        string // signs them
	Dir           string // where they wait
	Viewers       bool   // tell of viewers too
	Timeout       time.Duration
	AliveInterval time.Duration // how often a stream that goes on is told of; 0: every minute
	Log           *slog.Logger
}

// An Outbox brings the events of a hub to a URL: in order, at least once, from the disk.
type Outbox struct {
	hub    *stream.Hub
	opt    OutboxOptions
	client *client
	queue  *diskQueue

	events    <-chan stream.Event
	lost      func() uint64
	stop      func()
	extra     chan Event // by other parts of the server than the hub
	extraLost atomic.Uint64
}

// OpenOutbox opens the box in o.Dir, which is made when absent, and begins to note events; Run must be called.
func OpenOutbox(hub *stream.Hub, o OutboxOptions) (*Outbox, error) {
	b, err := openQueue(o.Dir)
	if err != nil {
		return nil, err
	}
	o.AliveInterval = cmp.Or(o.AliveInterval, aliveInterval)
	out := &Outbox{hub: hub, opt: o, client: newClient(o.Secret, o.Timeout), queue: b,
		extra: make(chan Event, maxExtraEvents)}
	out.events, out.lost, out.stop = hub.Observe(maxWaitingEvents, o.Viewers)
	return out, nil
}

// Run takes events and brings them until ctx ends, and closes the box. What is left then is brought
// after the next start.
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
			o.opt.Log.Error("closing the outbox", "err", err)
		}
		o.client.http.CloseIdleConnections()
	}()
	// The box is this goroutine's; who sends has a batch at a time.
	type batch struct {
		id     string
		events []Event
	}
	send, done := make(chan batch), make(chan struct{})
	sent := make(chan bool, 1) // whether the batch was taken
	var under position         // where the batch under way ends
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
			o.markDelivered(under)
		}
	}()
	alive := time.NewTicker(o.opt.AliveInterval)
	defer alive.Stop()
	for {
		if !busy {
			list, end, err := o.queue.next(maxBatch, time.Now())
			if err != nil {
				o.opt.Log.Error("reading the outbox", "err", err)
			}
			if len(list) == 0 && end != o.queue.position() { // what was too old
				o.markDelivered(end)
			}
			if len(list) > 0 {
				under, busy = end, true
				send <- batch{newID(), list} // who sends is idle
			}
		}
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			all := append([]stream.Event{e}, receiveAll(events)...)
			o.addStreamEvents(all, lost()-missed)
			missed = lost()
		case e := <-o.extra:
			o.add([]Event{e}, o.extraLost.Swap(0))
		case ok := <-sent:
			if busy = false; ok {
				o.markDelivered(under)
			}
		case now := <-alive.C:
			going := o.liveEvents(now)
			all := receiveAll(events)
			o.addStreamEvents(all, lost()-missed)
			missed = lost()
			// What else was told of a stream meanwhile comes before or after: which, the next minute knows.
			o.add(slices.DeleteFunc(going, func(g Event) bool {
				return slices.ContainsFunc(all, func(e stream.Event) bool { return e.Name.String() == g.Stream })
			}), 0)
		case <-ctx.Done():
			return
		}
	}
}

// RelayFailed tells that a relay keeps failing. It never blocks.
func (o *Outbox) RelayFailed(s domain.RelayStatus) {
	name := domain.Name{App: s.App, Room: s.Room}
	o.addExtra(Event{ID: newID(), Type: "relay.failed", Stream: name.String(), At: s.Since.UTC(),
		Relay: &Relay{s.Direction, s.URL, s.Error, s.Attempts}})
}

// RecordingFinished tells that a file was closed. It never blocks.
func (o *Outbox) RecordingFinished(r domain.Recording) {
	o.addExtra(Event{ID: newID(), Type: "recording.finished", Stream: r.Name.String(), At: time.Now().UTC(),
		Recording: &Recording{
			File: r.File, Started: r.Started, Bytes: r.Bytes, Duration: r.Duration.Seconds(), Gaps: r.Gaps, Reason: r.Reason,
			Error: r.Error[:min(len(r.Error), domain.MaxName)],
		}})
}

// addExtra takes an event that is none of the hub's.
func (o *Outbox) addExtra(e Event) {
	select {
	case o.extra <- e:
	default:
		o.extraLost.Add(1)
	}
}

func (o *Outbox) markDelivered(p position) {
	if err := o.queue.markDelivered(p); err != nil {
		o.opt.Log.Error("the position in the outbox", "err", err)
	}
}

// receiveAll returns what waits in events.
func receiveAll(events <-chan stream.Event) (all []stream.Event) {
	for len(all) < maxWaitingEvents {
		select {
		case e, ok := <-events:
			if !ok {
				return all
			}
			all = append(all, e)
		default:
			return all
		}
	}
	return all
}

// addStreamEvents puts events into the box; lost is how many never came here.
func (o *Outbox) addStreamEvents(events []stream.Event, lost uint64) {
	var list []Event
	for _, e := range events {
		if t := eventType(e.Type); t != "" {
			list = append(list, Event{ID: newID(), Type: t, Stream: e.Name.String(), At: e.At.UTC(), Viewer: e.Viewer})
		}
	}
	o.add(list, lost)
}

// liveEvents returns an event for each stream that goes on, in order of their names.
func (o *Outbox) liveEvents(now time.Time) (list []Event) {
	for _, in := range o.hub.Snapshot() {
		if !in.Held {
			list = append(list, Event{ID: newID(), Type: typeLive, Stream: in.Name.String(), At: now.UTC()})
		}
	}
	return list
}

// add puts events into the box; lost is how many never came here.
func (o *Outbox) add(list []Event, lost uint64) {
	if err := o.queue.add(list); err != nil {
		o.opt.Log.Error("writing to the outbox", "err", err)
	}
	if n := uint64(o.queue.resetLost()) + lost; n > 0 {
		o.opt.Log.Warn("events are lost: nobody takes them, or not as fast as they come", "events", n)
	}
}

// eventType returns how an event is told; "" for one that is not.
func eventType(t stream.EventType) string {
	switch t {
	case stream.Started, stream.Held, stream.Resumed, stream.Ended:
		return "stream." + t.String()
	case stream.Joined, stream.Left:
		return "viewer." + t.String()
	}
	return ""
}

// deliver sends events again and again until they are taken: any status of 2xx. One of 4xx says
// that they will never be, except that 408 and 429 ask for patience. It reports false when ctx
// ended before.
func (o *Outbox) deliver(ctx context.Context, id string, events []Event) bool {
	body := mustJSON(struct {
		Events []Event `json:"events"`
	}{events})
	pause := retryFirst
	for ctx.Err() == nil {
		answer, err := o.client.post(ctx, o.opt.URL, id, body)
		status := answer.status
		switch {
		case err == nil && status/100 == 2:
			return true
		case err == nil && status/100 == 4 && status != 401 && status != 403 && status != 404 && status != 408 &&
			status != 429:
			o.opt.Log.Warn("events are refused for good", "status", status, "events", len(events))
			return true
		case ctx.Err() == nil:
			o.opt.Log.Warn("events are not taken", "status", status, "err", err, "retry_in", pause)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:forbidigo // jitter, no secret
		case <-ctx.Done():
		}
		pause = min(2*pause, retryMax)
	}
	return false
}
