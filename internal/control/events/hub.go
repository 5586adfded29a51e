package events

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"livego/internal/domain"
	"livego/internal/stream"
)

// maxWaiting is how many events of the hub wait to be added. More are lost, since a stream must not
// wait; those of viewers are lost first.
const maxWaiting = 4096

// Observe starts to observe hub. The caller must call run, which adds the hub's events until ctx ends.
func (l *Log) Observe(hub *stream.Hub) (run func(ctx context.Context)) {
	events, lost, stop := hub.Observe(maxWaiting, true)
	return func(ctx context.Context) {
		defer stop()
		missed := uint64(0)
		add := func(e stream.Event) {
			if n := lost(); n > missed {
				l.addLost(n - missed)
				missed = n
			}
			l.addStreamEvent(e)
		}
		for {
			select {
			case e := <-events:
				add(e)
			case <-ctx.Done():
				for range len(events) {
					add(<-events)
				}
				return
			}
		}
	}
}

// addStreamEvent adds an event of the hub, unless it is one that is only counted.
func (l *Log) addStreamEvent(e stream.Event) {
	out := domain.Event{At: e.At, App: e.Name.App, Room: e.Name.Room, Proto: e.Proto, Remote: e.Remote, Reason: e.Reason,
		Session: strconv.FormatUint(cmp.Or(e.Publisher, e.Viewer), 10)}
	switch e.Type {
	case stream.Started:
		out.Type = domain.EventStreamStarted
	case stream.Held:
		out.Type = domain.EventStreamHeld
	case stream.Resumed:
		out.Type = domain.EventStreamResumed
	case stream.Ended:
		out.Type = domain.EventStreamEnded
	case stream.Joined:
		out.Type = domain.EventViewerJoined
	case stream.Left:
		out.Type = domain.EventViewerLeft
	default:
		return
	}
	l.Add(out)
}

// cut returns the start of s that is valid UTF-8 and at most limit bytes long.
func cut(s string, limit int) string {
	return strings.Clone(strings.ToValidUTF8(s[:min(len(s), limit)], ""))
}
