package redis

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"livego/internal/live"
)

const (
	// remember is how long what was revoked is known, here and in Redis.
	remember = 24 * time.Hour
	// maxRevoked bounds the memory of it, about 100 MB. Beyond, the oldest are let go early.
	maxRevoked = 500_000
	// entries is how many are read of the stream at a time.
	entries = 500
	// reapplyEvery is how often it is looked whether something revoked has come back unseen.
	reapplyEvery = time.Minute
	// hearWithin is how long after it was written our own word must be in the stream; else Redis has forgotten it.
	hearWithin = 2 * time.Second
)

// A Revoker disconnects whoever publishes with one of refs. With end the streams end, else they are held.
type Revoker func(refs []live.KeyRef, end bool)

// A Deleter ends the sessions of a room's viewers, in app or for "" in every app: another server has deleted it.
type Deleter func(app, room string)

// An entry is the word of what was revoked, as it travels.
type entry struct {
	Nonce string        `json:"nonce"`
	Room  string        `json:"room"`
	App   string        `json:"app,omitempty"` // with End: the only app whose keys went; "": all of them
	Refs  []live.KeyRef `json:"refs"`
	End   bool          `json:"end,omitempty"`
	At    time.Time     `json:"at"`
	Due   time.Time     `json:"due"` // when a grace is over; else At
}

func newEntry(room string, r result) entry {
	return entry{live.NewSecret()[:16], room, r.app, r.revoke, r.end, time.Now().UTC(), r.due.UTC()}
}

// revoked is what this server knows to be revoked.
type revoked struct {
	mu     sync.Mutex
	refs   map[live.KeyRef]revocation
	byID   map[string]uint64    // the highest generation revoked of each key
	order  []live.KeyRef        // by when they came
	own    map[string]time.Time // our own words that the stream has not shown yet, by nonce
	timers map[*time.Timer]struct{}

	pos     string    // the ID of the last entry read; "" for none
	checked time.Time // when reapply was last through
	lost    bool      // Redis has forgotten something
}

type revocation struct {
	room    string
	at, due time.Time
}

func newRevoked() revoked {
	return revoked{
		refs: map[live.KeyRef]revocation{}, byID: map[string]uint64{}, own: map[string]time.Time{}, timers: map[*time.Timer]struct{}{},
	}
}

// has reports whether ref is revoked by now.
func (v *revoked) has(ref live.KeyRef) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.refs[ref]
	return ok && !time.Now().Before(r.due)
}

// without returns keys less those that are revoked.
func (v *revoked) without(keys []live.Key) []live.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k live.Key) bool { return v.has(k.Ref()) })
}

// generation returns the highest generation of a key that was revoked: no later secret may have one of these.
func (v *revoked) generation(id string) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.byID[id]
}

// made notes what was revoked here.
func (v *revoked) made(e entry, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.own[e.Nonce] = now
	v.note(e)
}

// note remembers e, and reports whether it was news. Caller holds v.mu.
func (v *revoked) note(e entry) (news bool) {
	for _, ref := range e.Refs {
		if old, ok := v.refs[ref]; ok {
			if e.Due.Before(old.due) {
				old.due = e.Due
				v.refs[ref] = old
			}
			continue
		}
		v.refs[ref] = revocation{e.Room, e.At, e.Due}
		v.byID[ref.ID] = max(v.byID[ref.ID], ref.Generation)
		v.order = append(v.order, ref)
		news = true
	}
	return news
}

// forget lets go of what is older than a day, or too much. Caller holds v.mu.
func (v *revoked) forget(now time.Time) {
	for len(v.order) > 0 {
		ref := v.order[0]
		if r := v.refs[ref]; len(v.order) <= maxRevoked && now.Sub(r.due) < remember {
			return
		}
		delete(v.refs, ref)
		if v.byID[ref.ID] == ref.Generation {
			delete(v.byID, ref.ID)
		}
		v.order = v.order[1:]
	}
}

// hear notes an entry of the stream and has revoke act on it when it is due. It has deleted act on a room that another server deleted,
// once: what is known already is our own word, or the stream is being read again.
func (v *revoked) hear(e entry, revoke Revoker, deleted Deleter) {
	now := time.Now()
	if now.Sub(e.At) > remember {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.own, e.Nonce)
	news := v.note(e)
	wait := e.Due.Sub(now)
	if wait <= 0 {
		v.mu.Unlock()
		revoke(e.Refs, e.End)
		if e.End && news {
			deleted(e.App, e.Room)
		}
		v.mu.Lock()
		return
	}
	var t *time.Timer
	t = time.AfterFunc(wait, func() {
		v.mu.Lock()
		_, mine := v.timers[t]
		delete(v.timers, t)
		v.mu.Unlock()
		if mine {
			revoke(e.Refs, e.End)
		}
	})
	v.timers[t] = struct{}{}
}

// stop forgets what is not due yet: nobody is there any more to disconnect.
func (v *revoked) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for t := range v.timers {
		t.Stop()
		delete(v.timers, t)
	}
}

// catchUp reads the stream from where it was last read. That the entry there is gone shows that Redis has forgotten.
func (s *Store) catchUp(ctx context.Context, revoke Revoker, deleted Deleter) error {
	v := &s.revoked
	for {
		v.mu.Lock()
		pos := v.pos
		v.mu.Unlock()
		from := pos
		if from == "" {
			from = strconv.FormatInt(time.Now().Add(-remember).UnixMilli(), 10)
		}
		list, err := s.client.XRangeN(ctx, revokedName, from, "+", entries).Result()
		if err != nil {
			return err
		}
		if pos != "" {
			if len(list) == 0 || list[0].ID != pos {
				v.forgotten()
				continue
			}
			list = list[1:]
		}
		for _, m := range list {
			var e entry
			if text, ok := m.Values["r"].(string); ok && unseal(revokedName, text, &e) == nil {
				v.hear(e, revoke, deleted)
			}
			v.mu.Lock()
			v.pos = m.ID
			v.mu.Unlock()
		}
		if len(list) < entries-1 {
			return nil
		}
	}
}

// forgotten has everything be read and applied anew.
func (v *revoked) forgotten() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pos, v.lost = "", true
}

// dueCheck reports whether it is time to look for what has come back.
func (v *revoked) dueCheck(now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget(now)
	for nonce, at := range v.own {
		if now.Sub(at) > hearWithin {
			delete(v.own, nonce)
			v.lost = true
		}
	}
	if !v.lost && now.Sub(v.checked) < reapplyEvery {
		return false
	}
	v.lost, v.checked = false, now
	return true
}

// rooms returns the rooms of all that is revoked by now.
func (v *revoked) rooms(now time.Time) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := map[string]bool{}
	var all []string
	for _, r := range v.refs {
		if !seen[r.room] && !now.Before(r.due) {
			seen[r.room] = true
			all = append(all, r.room)
		}
	}
	return all
}

// reapply removes what was revoked and has come back: in a replica that took over before it had heard, or from a copy. The other
// servers are told as of any revocation.
func (s *Store) reapply(ctx context.Context) {
	now := time.Now()
	if !s.revoked.dueCheck(now) {
		return
	}
	for rooms := range slices.Chunk(s.revoked.rooms(now), page) {
		if err := s.reapplyTo(ctx, rooms); err != nil {
			s.revoked.mu.Lock()
			s.revoked.lost = true
			s.revoked.mu.Unlock()
			return
		}
	}
}

func (s *Store) reapplyTo(ctx context.Context, rooms []string) error {
	values := make([]*goredis.StringCmd, len(rooms))
	err := s.do(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i, name := range rooms {
			values[i] = pipe.GetRange(ctx, roomName+name, 0, maxRoom)
		}
		if _, err := pipe.Exec(ctx); !isForeign(err) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, name := range rooms {
		old, err := decodeRoom(name, values[i].Val())
		if err != nil || len(s.revoked.without(old)) == len(old) {
			continue
		}
		var back []live.KeyRef
		for _, k := range old {
			if s.revoked.has(k.Ref()) {
				back = append(back, k.Ref())
			}
		}
		err = s.update(ctx, name, func(keys []live.Key) (result, error) {
			return result{keys: keys, revoke: back, due: time.Now()}, nil
		})
		if err != nil {
			return err
		}
		s.opt.Log.Warn("Redis had forgotten a revocation, which is made again", "room", name, "keys", len(back))
	}
	return nil
}
