package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"livego/internal/live"
	"livego/internal/netx"
)

// GateOptions say whom to ask.
type GateOptions struct {
	OnPublish, OnPlay string // URLs; "": nobody is asked
	Secret            string // signs the questions
	Timeout           time.Duration
	Live              func(live.Name) bool // whether a stream is live; nil: all are taken to be
	Log               *slog.Logger
}

// A Gate asks who else must say yes. No answer, or one that is not understood, is a no.
type Gate struct {
	opt    GateOptions
	client *client
	known  answers // that say how long they hold

	// Turns to ask. Questions about publishers have their own: everybody can cause one about a player, of a room that is made up.
	publishing, playing *netx.Shares

	// recent are other answers to players, for a moment: so a player that asks for the same again and again, and is refused or finds
	// nothing live, costs one question. A yes counts only while its room is not live, where it leads to "not found".
	recent answers
}

// NewGate returns a Gate with nothing known.
func NewGate(o GateOptions) *Gate {
	return &Gate{
		opt: o, client: newClient(o.Secret, o.Timeout), publishing: netx.NewSharesOf(maxAsking), playing: netx.NewSharesOf(maxAsking),
	}
}

// question is what is asked. It holds no key and no token.
type question struct {
	Action string `json:"action"` // "publish" or "play"
	App    string `json:"app"`
	Room   string `json:"room"`
	Proto  string `json:"proto"`
	Remote string `json:"remote"` // host:port
	Role   string `json:"role,omitempty"`
	KeyID  string `json:"key_id,omitempty"` // of the key that he came with
}

// answer is what must come back, with a status of 200: allow, and maybe another room, or why not.
type answer struct {
	Allow  *bool  `json:"allow"`
	Room   string `json:"room"`
	Reason string `json:"reason"`
}

// Ask returns grant, what r has been granted so far, with another room where that is the answer. Errors are of kind Denied, Limit or
// Unavailable.
func (g *Gate) Ask(ctx context.Context, r live.Request, grant live.Grant) (live.Grant, error) {
	url, turns := g.opt.OnPlay, g.playing
	if r.Action == live.Publish {
		url, turns = g.opt.OnPublish, g.publishing
	}
	if url == "" {
		return grant, nil
	}
	q := question{
		Action: r.Action.String(), App: grant.Name.App, Room: grant.Name.Room, Proto: r.Proto, Remote: r.Remote, KeyID: grant.Key.ID,
	}
	if r.Action == live.Publish {
		q.Role = grant.Role.String()
	}
	a, ok := g.kept(q, grant.Name)
	if !ok {
		done, err := g.turn(ctx, turns, r.Remote)
		if err != nil {
			return live.Grant{}, err
		}
		defer done()
		if a, ok = g.kept(q, grant.Name); !ok { // what came while this one waited
			if a, err = g.ask(ctx, url, q); err != nil {
				return live.Grant{}, err
			}
		}
	}
	if err := a.refusal(); err != nil {
		return live.Grant{}, err
	}
	if a.Room != "" {
		name, err := live.ParseName(grant.Name.App, a.Room)
		if err != nil {
			g.opt.Log.Warn("a hook names a room that cannot be", "action", q.Action, "err", err)
			return live.Grant{}, errNoAnswer()
		}
		grant.Name = name
	}
	return grant, nil
}

// kept returns the answer to q that need not be asked for again. name is the room that q is about.
func (g *Gate) kept(q question, name live.Name) (answer, bool) {
	now := time.Now()
	if a, ok := g.known.get(q, now); ok {
		return a, true
	}
	a, ok := g.recent.get(q, now)
	if !ok || !*a.Allow {
		return a, ok
	}
	if a.Room != "" {
		name.Room = a.Room
	}
	return a, g.opt.Live != nil && !g.opt.Live(name)
}

// turn waits until one more may ask, of its address and of all: many viewers come at once. The caller calls done.
func (g *Gate) turn(ctx context.Context, turns *netx.Shares, remote string) (done func(), err error) {
	bounded, cancel := context.WithTimeout(ctx, g.opt.Timeout)
	defer cancel()
	done, err = turns.Acquire(bounded, remote)
	switch {
	case err == nil:
		return done, nil
	case ctx.Err() != nil:
		return nil, &live.Error{Kind: live.Unavailable, Err: ctx.Err()}
	}
	return nil, live.Errorf(live.Limit, "too many are coming at once")
}

// maxReason bounds what a hook says to who is refused, in bytes.
const maxReason = 200

// ask returns a yes or a no in so many words; anything else is an error.
func (g *Gate) ask(ctx context.Context, url string, q question) (answer, error) {
	said, err := g.client.post(ctx, url, newID(), mustJSON(q))
	var a answer
	d := json.NewDecoder(bytes.NewReader(said.body))
	switch {
	case err != nil:
		g.opt.Log.Warn("a hook does not answer", "action", q.Action, "err", err)
		return a, errNoAnswer()
	case said.status == 401 || said.status == 403:
		a.Allow = new(bool)
	case said.status != 200 || d.Decode(&a) != nil || a.Allow == nil || d.More():
		g.opt.Log.Warn("a hook gives an answer that is none", "action", q.Action, "status", said.status)
		return a, errNoAnswer()
	case len(a.Room) > live.MaxName: // before it is kept
		g.opt.Log.Warn("a hook names a room that cannot be", "action", q.Action, "length", len(a.Room))
		return a, errNoAnswer()
	}
	a.Reason = strings.Clone(live.Shorten(a.Reason, maxReason)) // what is kept does not hold all that was sent
	switch {
	case said.age > 0 && said.status == 200:
		g.known.put(q, a, time.Now(), said.age)
	case !said.aged && q.Action == live.Play.String():
		g.recent.put(q, a, time.Now(), keepRecent)
	}
	return a, nil
}

// refusal returns a no as an error.
func (a answer) refusal() error {
	switch {
	case *a.Allow:
		return nil
	case a.Reason != "":
		return live.Errorf(live.Denied, "%s", a.Reason)
	}
	return errRefused()
}

func errRefused() error { return live.Errorf(live.Denied, "refused by the operator") }

func errNoAnswer() error {
	return live.Errorf(live.Unavailable, "who decides about this does not answer")
}
