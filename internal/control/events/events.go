// Package events keeps the latest events of the server, for lists and for subscribers that want
// each as it happens. Adding an event never blocks and never waits for a subscriber. The package
// knows the hub, but neither HTTP nor webhooks.
package events

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"livego/internal/domain"
)

const (
	// maxKept is how many events are kept of each class, about 300 kB.
	maxKept = 1000
	// maxSubscriptions bounds the concurrent subscriptions.
	maxSubscriptions = 64
	// Bounds of one event: texts in bytes.
	maxName, maxReason, maxFields, maxFieldText = domain.MaxName, 512, 16, 256
)

// Events of one class do not displace those of another: refusals and viewers may be many.
const (
	classServer = iota
	classViewers
	classRefusals
	classes
)

func classOf(t domain.EventType) int {
	switch {
	case t.Is("viewer"):
		return classViewers
	case t == domain.EventDenied:
		return classRefusals
	}
	return classServer
}

// A Log keeps the latest events: maxKept refusals, as many of viewers, and as many others. It is safe
// for concurrent use.
type Log struct {
	first uint64 // ID of the first event

	mu            sync.Mutex
	last          uint64 // ID of the newest event, or of one that was lost
	kept          [classes]ring
	changed       chan struct{} // closed and replaced by the next event; nil if no subscription waits
	subscriptions int
	closed        bool
	counts        map[domain.EventType]uint64
}

// New returns an empty log. IDs start at the time in microseconds, so that they increase over a
// restart too, and remain exact in JavaScript.
func New() *Log {
	first := uint64(max(1, time.Now().UnixMicro()))
	return &Log{first: first, last: first - 1, counts: make(map[domain.EventType]uint64)}
}

// Add adds e with a new ID, and the current time unless it has one. Texts that are too long are cut,
// and what is neither a text, a number nor a boolean is left out.
func (l *Log) Add(e domain.Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.UTC()
	e.App, e.Room, e.Session = cut(e.App, maxName), cut(e.Room, maxName), cut(e.Session, maxName)
	e.Proto, e.Remote, e.Path = cut(e.Proto, maxName), cut(e.Remote, maxName), cut(e.Path, maxName)
	e.Reason, e.Fields = cut(e.Reason, maxReason), boundFields(e.Fields)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.ID = l.last
	l.kept[classOf(e.Type)].add(e)
	l.counts[e.Type]++
	l.wake()
}

// addLost records that n events were lost before they could be added.
func (l *Log) addLost(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last += n
	l.wake()
}

// wake wakes the subscriptions. The caller holds l.mu.
func (l *Log) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Counts returns how many events of each type were added so far.
func (l *Log) Counts() map[domain.EventType]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts)
}

// Since returns the kept events with IDs above after, oldest first.
func (l *Log) Since(after uint64) []domain.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since(after)
}

func (l *Log) since(after uint64) (list []domain.Event) {
	for i := range l.kept {
		list = l.kept[i].appendSince(list, after)
	}
	slices.SortFunc(list, func(a, b domain.Event) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Close ends all subscriptions, after the events that were added before. Later ones are refused.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wake()
}

// A Subscription receives events as they happen. One goroutine at a time may use it.
type Subscription struct {
	log  *Log
	last uint64 // ID of the last event that Next returned or counted as lost
}

// Subscribe returns a subscription to the events with IDs above after, as far as they are kept, or to
// those from now on if after is 0. It fails with Limit if there are too many, and with Unavailable
// after Close of the log. The caller must call Close.
func (l *Log) Subscribe(after uint64) (*Subscription, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, domain.Errorf(domain.Unavailable, "the server is stopping")
	case l.subscriptions == maxSubscriptions:
		return nil, domain.Errorf(domain.Limit, "%d subscriptions to events exist already", maxSubscriptions)
	}
	l.subscriptions++
	if after == 0 || after > l.last {
		after = l.last
	}
	return &Subscription{log: l, last: max(after, l.first-1)}, nil
}

// Next waits for events, and returns those since the call before, oldest first, and how many others
// happened that are no longer kept, because the caller was too slow. It returns io.EOF when the log is
// closed, and ctx's error when ctx is done.
func (s *Subscription) Next(ctx context.Context) (list []domain.Event, lost uint64, err error) {
	l := s.log
	for {
		l.mu.Lock()
		list, lost = l.since(s.last), l.last-s.last
		s.last = l.last
		closed := l.closed
		if lost == 0 && !closed && l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		switch {
		case lost > 0:
			return list, lost - uint64(len(list)), nil
		case closed:
			return nil, 0, io.EOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.subscriptions--
}

// A ring holds the latest maxKept events of a class.
type ring struct {
	events []domain.Event
	oldest int // its index once events is full
}

func (r *ring) add(e domain.Event) {
	if len(r.events) < maxKept {
		r.events = append(r.events, e)
		return
	}
	r.events[r.oldest] = e
	r.oldest = (r.oldest + 1) % maxKept
}

// appendSince appends the events with IDs above after to list, newest first.
func (r *ring) appendSince(list []domain.Event, after uint64) []domain.Event {
	for i := range r.events {
		e := r.events[(r.oldest+len(r.events)-1-i)%len(r.events)]
		if e.ID <= after {
			break
		}
		list = append(list, e)
	}
	return list
}

// boundFields returns a copy of fields within the bounds of an event; nil if there are none.
func boundFields(fields map[string]any) map[string]any {
	if len(fields) == 0 {
		return nil
	}
	bounded := make(map[string]any, min(len(fields), maxFields))
	for name, v := range fields {
		if len(bounded) == maxFields || len(name) > maxName {
			continue
		}
		switch v := v.(type) {
		case string:
			bounded[name] = cut(v, maxFieldText)
		case bool, int, int64, uint64, float64:
			bounded[name] = v
		}
	}
	return bounded
}
