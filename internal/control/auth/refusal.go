package auth

import (
	"context"

	"livego/internal/domain"
)

// maxRefusalName is the longest app or room name in the event of a refusal. A stream key that lost a
// character in transit is longer.
const maxRefusalName = 40

// refusal returns the event that r was refused for err. It holds no key, no token, and no name that
// may be one. Refusals because a service is unavailable or a limit is reached count too: users report
// them to the operator. It returns false for any other error.
func refusal(ctx context.Context, r domain.AuthRequest, err error) (e domain.Event, ok bool) {
	if kind := domain.KindOf(err); kind != domain.Denied && (kind != domain.Unavailable || ctx.Err() != nil) {
		return e, false
	}
	e = domain.Event{Type: domain.EventDenied, Action: r.Action.String(), Proto: r.Proto, Remote: r.Remote,
		Reason: domain.Reason(err), Code: domain.CodeOf(err)}
	if len(r.App) <= maxRefusalName && domain.CheckApp(r.App) == nil {
		e.App = r.App
	}
	if r.Action == domain.Play && len(r.Name) <= maxRefusalName && domain.CheckRoom(r.Name) == nil {
		e.Room = r.Name
	}
	return e, true
}
