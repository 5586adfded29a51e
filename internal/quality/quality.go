// Package quality collects what players report about playback, and computes figures for each stream. A report counts
// only for a playback session whose viewer is connected, or was a moment ago. The package stores no address and no name
// of a client. It knows no HTTP.
package quality

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/proto/cmcd"
)

const (
	// maxSampled is about how many players of a stream report. More do not make shares more exact: 1,000 give them to
	// 2 % of the stream's players.
	maxSampled = 1000
	// maxStored bounds the sessions that are stored for a stream. If there are more, those that are not in the sample
	// any more, and those that have ended, are removed: clients that connect and leave do not keep others out. Each
	// takes about 300 bytes.
	maxStored = 2 * maxSampled
	// keepEnded is how long a session is kept after its viewer has left: for the last report of a player, and because
	// figures are those of the last minute.
	keepEnded = time.Minute
	// recent is how old an event may be that figures count.
	recent = time.Minute
	// activeFor is how long a player counts after a report. Players report every 30 s, and perhaps 10 s later.
	activeFor = 75 * time.Second
	// minInterval is the time between two reports of a player that are used.
	minInterval = time.Second
	// sweepInterval is how often ended sessions are removed.
	sweepInterval = 10 * time.Second
)

// An ID identifies a playback session; 0: none. It is a hash of the session's name, which the player has chosen, and
// which only the player and the server know. The hash is keyed: no player can choose whether it is in the sample.
type ID uint64

// A Collector collects reports. A nil Collector collects nothing. It takes no other lock while it holds its own.
type Collector struct {
	seed maphash.Seed
	on   atomic.Bool

	mu       sync.Mutex
	sessions map[ID]*session
	streams  map[domain.Name]*viewers
	totals   map[string]*Totals // by protocol
	reports  [resultCount]uint64
}

// viewers are those of a stream whose player can report.
type viewers struct {
	name   domain.Name
	count  int        // connected, stored or not
	stored []*session // the sample
}

// A session is one playback session: a player from its start to its stop. It stays the same when the player connects
// again, perhaps by another protocol.
type session struct {
	id      ID
	of      *viewers
	proto   string
	browser string
	conns   int       // viewers that use it
	ended   time.Time // when conns became 0

	since    time.Time // when it was stored
	reported time.Time // the last report; zero: none
	reports  bool      // its player sends reports, so that its requests do not count too
	refused  bool      // a report was refused: its player sends no more before it connects again
	starved  bool      // requests since the last one that was recorded say that the picture has stopped
	last     cmcd.Data // the newest value of each number

	stalled, failed, switched time.Time // when it last did; zero: never
	failure                   string
	frames, dropped           int           // between the last two reports
	stallTime, interval       time.Duration // likewise
}

// New returns a Collector that is on.
func New() *Collector {
	c := &Collector{seed: maphash.MakeSeed(), sessions: make(map[ID]*session),
		streams: make(map[domain.Name]*viewers), totals: make(map[string]*Totals)}
	c.on.Store(true)
	return c
}

// SetOn turns c on or off. Off, no session starts, and no report counts.
func (c *Collector) SetOn(on bool) { c.on.Store(on) }

// Run removes ended sessions until ctx is done.
func (c *Collector) Run(ctx context.Context) {
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case now := <-sweep.C:
			c.expire(now)
		case <-ctx.Done():
			return
		}
	}
}

// ID returns the ID of a session that a player has named; 0 for "".
func (c *Collector) ID(session string) ID {
	if c == nil || session == "" {
		return 0
	}
	return ID(max(1, maphash.String(c.seed, session)))
}

// A Viewer is a connected viewer whose player can report. A nil Viewer can not.
type Viewer struct {
	c       *Collector
	of      *viewers
	session *session // nil if it is not in the sample
	left    bool
}

// Join adds a viewer of name that has named its session. agent is the User-Agent, of which only the family of the
// browser is kept. It returns nil if id is 0, or if another stream has the session. The caller must call Leave.
func (c *Collector) Join(id ID, name domain.Name, proto, agent string) *Viewer {
	if c == nil || id == 0 || !c.on.Load() {
		return nil
	}
	browser := browserOf(agent)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[id]
	if s != nil && s.of.name != name {
		if s.conns > 0 {
			return nil
		}
		c.remove(s.of, func(other *session) bool { return other == s })
		s = nil
	}
	of := c.streams[name]
	if of == nil {
		of = &viewers{name: name}
		c.streams[name] = of
	}
	of.count++
	if s == nil && len(of.stored) >= maxStored {
		c.remove(of, func(s *session) bool { return s.conns == 0 || !of.samples(s.id) })
	}
	if s == nil && of.samples(id) && len(of.stored) < maxStored {
		s = &session{id: id, of: of, since: now, last: cmcd.New()}
		c.sessions[id] = s
		of.stored = append(of.stored, s)
	}
	if s != nil {
		s.conns++
		s.proto, s.browser, s.refused = proto, browser, false
	}
	return &Viewer{c: c, of: of, session: s}
}

// Leave removes v. Its player may send a last report for a moment.
func (v *Viewer) Leave() {
	if v == nil {
		return
	}
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	if v.left {
		return
	}
	v.left = true
	v.of.count--
	if s := v.session; s != nil {
		if s.conns--; s.conns == 0 {
			s.ended = time.Now()
		}
	}
	v.c.release(v.of)
}

// samples reports whether a session is in the sample. While viewers become more, the sample has ever fewer of the
// sessions before, and is as large.
func (of *viewers) samples(id ID) bool {
	return of.count <= maxSampled || float64(id) <= maxSampled/float64(of.count)*float64(^ID(0))
}

// sampled reports whether s counts in the figures.
func (s *session) sampled() bool { return !s.refused && s.of.samples(s.id) }

// release forgets a stream without viewers and sessions. Caller holds c.mu.
func (c *Collector) release(of *viewers) {
	if of.count == 0 && len(of.stored) == 0 && c.streams[of.name] == of {
		delete(c.streams, of.name)
	}
}

// remove removes the sessions of a stream for which gone reports true. Caller holds c.mu.
func (c *Collector) remove(of *viewers, gone func(*session) bool) {
	of.stored = slices.DeleteFunc(of.stored, func(s *session) bool {
		if !gone(s) {
			return false
		}
		delete(c.sessions, s.id)
		return true
	})
	c.release(of)
}

// expire removes sessions that have ended some time ago.
func (c *Collector) expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range c.streams {
		c.remove(of, func(s *session) bool { return s.conns == 0 && now.Sub(s.ended) > keepEnded })
	}
}
