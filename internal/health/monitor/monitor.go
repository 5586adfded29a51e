// Package monitor examines every live stream of a hub by a health.Analyzer, and keeps the last ten
// minutes of each in memory. It reads a stream once a second, so that it wakes no goroutine for a frame.
// It knows no HTTP.
package monitor

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"livego/internal/domain"
	"livego/internal/health"
	"livego/internal/media"
	"livego/internal/stream"
)

const (
	interval = time.Second
	// viewersInterval is how often the viewers of a stream are searched for those that fall behind.
	viewersInterval = 10 * time.Second
	// behindFor is how long a viewer that skipped counts as one that falls behind.
	behindFor = 30 * time.Second
	// maxBehind limits the viewers that are kept for it.
	maxBehind = 10_000
)

// A Monitor examines the streams of a hub. Its methods are safe for concurrent use.
type Monitor struct {
	hub *stream.Hub
	opt Options

	mu      sync.Mutex
	streams map[domain.Name]*examination
}

// Options of a Monitor.
type Options struct {
	Event func(domain.Event) // called when a finding appears and when it is over; must not block; may be nil
	// Playback returns what the players of a stream report. It must not block, and may be nil.
	Playback func(domain.Name) health.Playback
	Log      *slog.Logger
}

// An examination is that of one session of a stream.
type examination struct {
	mu       sync.Mutex
	analyzer health.Analyzer

	// For the goroutine of the session.
	sub           *stream.Subscriber // nil until viewers can start
	skips         uint64             // of sub, that the analyzer knows
	searched      time.Time          // when the viewers were searched
	searchedSkips uint64             // how often viewers had skipped then
	behind        map[uint64]behind  // viewers that have skipped, by their ID
	protocols     map[string]int     // the viewers of the last second by protocol
}

// behind is a viewer that skipped.
type behind struct {
	skips uint64
	last  time.Time
}

// New returns a Monitor. It examines nothing until Run is called.
func New(hub *stream.Hub, o Options) *Monitor {
	return &Monitor{hub: hub, opt: o, streams: make(map[domain.Name]*examination)}
}

// Run examines the streams until ctx is done.
func (m *Monitor) Run(ctx context.Context) {
	m.hub.Supervise(ctx, stream.Consumer{Name: "health", Run: m.examine, Log: m.opt.Log})()
}

// A StreamFinding is a finding of one stream.
type StreamFinding struct {
	Name domain.Name
	health.Finding
}

// Findings returns the findings of all streams, ordered by app and room.
func (m *Monitor) Findings() (list []StreamFinding) {
	m.mu.Lock()
	names := make([]domain.Name, 0, len(m.streams))
	for name := range m.streams {
		names = append(names, name)
	}
	m.mu.Unlock()
	slices.SortFunc(names, func(a, b domain.Name) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Room, b.Room))
	})
	for _, name := range names {
		for _, f := range m.FindingsOf(name) {
			list = append(list, StreamFinding{name, f})
		}
	}
	return list
}

// FindingsOf returns the findings of a stream, the worst first.
func (m *Monitor) FindingsOf(name domain.Name) []health.Finding {
	e := m.examinationOf(name)
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.analyzer.Findings()
}

// History returns the last ten minutes of a stream, oldest second first.
func (m *Monitor) History(name domain.Name) []health.Sample {
	e := m.examinationOf(name)
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.analyzer.History()
}

func (m *Monitor) examinationOf(name domain.Name) *examination {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.streams[name]
}

// examine examines a session until it ends.
func (m *Monitor) examine(ctx context.Context, s *stream.Session) error {
	e := new(examination)
	m.mu.Lock()
	m.streams[s.Name()] = e
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.streams, s.Name())
		m.mu.Unlock()
		if e.sub != nil {
			e.sub.Leave()
		}
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var frames [64]*media.Frame
	for {
		if e.sub == nil && !e.subscribe(ctx, s) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			ended := e.read(ctx, frames[:])
			clear(frames[:])
			m.tick(s.Name(), e, now)
			if ended != nil {
				return nil
			}
		}
	}
}

// subscribe tries to join the session, for at most a second: until viewers can start, there are no
// frames, but perhaps a reason. It returns false if the session or ctx has ended.
func (e *examination) subscribe(ctx context.Context, s *stream.Session) bool {
	wait, cancel := context.WithTimeout(ctx, interval)
	defer cancel()
	o := stream.SubscribeOptions{Viewer: stream.ViewerOptions{Proto: "health", Internal: true}, GOPs: math.MaxInt}
	if s.Restarted() {
		o.GOPs = 0 // do not read again what may have caused the failure
	}
	sub, err := s.Subscribe(wait, o)
	if err == nil {
		e.sub = sub
	}
	return err == nil || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
}

// read reads the frames of the last second. It returns io.EOF at the end of the session.
func (e *examination) read(ctx context.Context, frames []*media.Frame) error {
	for e.sub != nil && ctx.Err() == nil {
		n, err := e.sub.Poll(frames)
		e.observe(frames[:n])
		switch {
		case err != nil:
			return io.EOF
		case n == 0:
			return nil
		}
	}
	return nil
}

// observe examines frames. It unlocks also after a panic, since readers may wait.
func (e *examination) observe(frames []*media.Frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if skips := e.sub.Skips(); skips > e.skips {
		e.skips = skips
		e.analyzer.Skip()
	}
	for _, f := range frames {
		e.analyzer.Observe(f, f.EncoderDTS, f.Arrived)
	}
}

// finishSecond ends a second of e.
func (e *examination) finishSecond(now time.Time, facts health.Facts) (appeared, cleared []health.Finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.analyzer.Tick(now, facts)
}

// tick ends a second of e, and reports what changed.
func (m *Monitor) tick(name domain.Name, e *examination, now time.Time) {
	in, ok := m.hub.Info(name)
	if !ok {
		return
	}
	facts := health.Facts{Held: in.Held}
	skips := uint64(0)
	protocols := make(map[string]int, len(in.Viewers))
	for proto, v := range in.Viewers {
		facts.Viewers += v.Viewers
		skips += v.Skips
		if v.Viewers > 0 {
			protocols[proto] = v.Viewers
		}
	}
	if !maps.Equal(protocols, e.protocols) { // the samples of a history share the map of unchanged numbers
		e.protocols = protocols
	}
	facts.Protocols = e.protocols
	for _, p := range in.Publishers {
		if p.Active {
			facts.Unusable, facts.ArrivalTimestamps = p.Skipped.Unusable, p.ArrivalTimestamps
			facts.Damaged = p.Skipped.Skipped[media.SkipMalformed] + p.Skipped.Skipped[media.SkipUnit]
		}
	}
	facts.Behind = m.countBehind(name, e, skips, now)
	if m.opt.Playback != nil {
		facts.Playback = m.opt.Playback(name)
	}
	appeared, cleared := e.finishSecond(now, facts)
	for _, f := range appeared {
		m.opt.Log.Warn("stream problem", "stream", name.String(), "finding", f.Code, "problem", f.Text)
		m.emit(domain.EventFindingAppeared, name, f)
	}
	for _, f := range cleared {
		m.opt.Log.Info("stream problem is over", "stream", name.String(), "finding", f.Code)
		m.emit(domain.EventFindingCleared, name, f)
	}
}

func (m *Monitor) emit(t domain.EventType, name domain.Name, f health.Finding) {
	if m.opt.Event == nil {
		return
	}
	m.opt.Event(domain.Event{Type: t, App: name.App, Room: name.Room, Reason: f.Text,
		Fields: map[string]any{"finding": f.Code, "severity": string(f.Severity)}})
}

// countBehind returns how many viewers have skipped to a newer keyframe lately. Only if some
// have, which the sum skips says, it reads the list of viewers.
func (m *Monitor) countBehind(name domain.Name, e *examination, skips uint64, now time.Time) (n int) {
	if skips != e.searchedSkips && now.Sub(e.searched) >= viewersInterval {
		e.searched, e.searchedSkips = now, skips
		e.behind = m.viewersThatSkipped(name, e.behind, now)
	}
	for _, b := range e.behind {
		if now.Sub(b.last) <= behindFor {
			n++
		}
	}
	return n
}

// viewersThatSkipped returns the viewers of now that have ever skipped, of which before has those of
// the last search.
func (m *Monitor) viewersThatSkipped(name domain.Name, before map[uint64]behind, now time.Time) map[uint64]behind {
	found := make(map[uint64]behind)
	var viewers [64]stream.ConnInfo
	for after, n := uint64(0), len(viewers); n == len(viewers) && len(found) < maxBehind; runtime.Gosched() {
		n = m.hub.Viewers(name, after, viewers[:])
		for i := range viewers[:n] {
			v := &viewers[i]
			after = v.ID
			if b := before[v.ID]; v.Skips > b.skips {
				found[v.ID] = behind{v.Skips, now}
			} else if v.Skips > 0 {
				found[v.ID] = b
			}
		}
	}
	return found
}
