package redis

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"livego/internal/domain"
)

const (
	// revocationTTL is how long what was revoked is known, here and in Redis.
	revocationTTL = 24 * time.Hour
	// maxRevoked bounds the memory of it, about 100 MB. Beyond, the oldest are let go early.
	maxRevoked = 500_000
	// entriesPerRead is how many are read of the stream at a time.
	entriesPerRead = 500
	// reapplyInterval is how often it is looked whether something revoked has come back unseen.
	reapplyInterval = time.Minute
	// ownEntryTimeout is how long after it was written our own word must be in the stream; else Redis has forgotten it.
	ownEntryTimeout = 2 * time.Second
)

// A RevokeFunc disconnects whoever publishes with one of refs. With end the streams end, else they are held.
type RevokeFunc func(refs []domain.KeyRef, end bool)

// A RoomDeletedFunc ends the sessions of a room's viewers, in app or for "" in every app: another
// server has deleted it.
type RoomDeletedFunc func(app, room string)

// An revocationEntry is the word of what was revoked, as it travels.
type revocationEntry struct {
	Nonce string          `json:"nonce"`
	Room  string          `json:"room"`
	App   string          `json:"app,omitempty"` // with End: the only app whose keys went; "": all of them
	Refs  []domain.KeyRef `json:"refs"`
	End   bool            `json:"end,omitempty"`
	At    time.Time       `json:"at"`
	Due   time.Time       `json:"due"` // when a grace is over; else At
}

func newRevocationEntry(room string, r roomUpdate) revocationEntry {
	return revocationEntry{domain.NewSecret()[:16], room, r.app, r.revoke, r.endStreams, time.Now().UTC(), r.due.UTC()}
}

// revocations is what this server knows to be revocations.
type revocations struct {
	mu          sync.Mutex
	refs        map[domain.KeyRef]revocation
	byID        map[string]uint64    // the highest generation revoked of each key
	order       []domain.KeyRef      // by when they came
	unconfirmed map[string]time.Time // our unconfirmed words that the stream has not shown yet, by nonce
	timers      map[*time.Timer]struct{}

	lastID      string    // the ID of the last entry read; "" for none
	reappliedAt time.Time // when reapply was last through
	dataLost    bool      // Redis has forgotten something
}

type revocation struct {
	room    string
	at, due time.Time
}

func newRevocations() revocations {
	return revocations{
		refs: map[domain.KeyRef]revocation{}, byID: map[string]uint64{}, unconfirmed: map[string]time.Time{},
		timers: map[*time.Timer]struct{}{},
	}
}

// has reports whether ref is revoked by now.
func (v *revocations) has(ref domain.KeyRef) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.refs[ref]
	return ok && !time.Now().Before(r.due)
}

// without returns keys less those that are revoked.
func (v *revocations) without(keys []domain.Key) []domain.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k domain.Key) bool { return v.has(k.Ref()) })
}

// generation returns the highest generation of a key that was revoked: no later secret may have one of these.
func (v *revocations) generation(id string) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.byID[id]
}

// addOwn notes what was revoked here.
func (v *revocations) addOwn(e revocationEntry, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unconfirmed[e.Nonce] = now
	v.add(e)
}

// add remembers e, and reports whether it was news. Caller holds v.mu.
func (v *revocations) add(e revocationEntry) (news bool) {
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

// expire lets go of what is older than a day, or too much. Caller holds v.mu.
func (v *revocations) expire(now time.Time) {
	for len(v.order) > 0 {
		ref := v.order[0]
		if r := v.refs[ref]; len(v.order) <= maxRevoked && now.Sub(r.due) < revocationTTL {
			return
		}
		delete(v.refs, ref)
		if v.byID[ref.ID] == ref.Generation {
			delete(v.byID, ref.ID)
		}
		v.order = v.order[1:]
	}
}

// apply notes an entry of the stream and has revoke act on it when it is due. It has deleted act on
// a room that another server deleted, once: what is known already is our own word, or the stream is
// being read again.
func (v *revocations) apply(e revocationEntry, revoke RevokeFunc, deleted RoomDeletedFunc) {
	now := time.Now()
	if now.Sub(e.At) > revocationTTL {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.unconfirmed, e.Nonce)
	news := v.add(e)
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
func (v *revocations) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for t := range v.timers {
		t.Stop()
		delete(v.timers, t)
	}
}

// readRevocations reads the stream from where it was last read. That the entry there is gone shows
// that Redis has forgotten.
func (s *Store) readRevocations(ctx context.Context, revoke RevokeFunc, deleted RoomDeletedFunc) error {
	v := &s.revocations
	for {
		v.mu.Lock()
		pos := v.lastID
		v.mu.Unlock()
		from := pos
		if from == "" {
			from = strconv.FormatInt(time.Now().Add(-revocationTTL).UnixMilli(), 10)
		}
		list, err := s.client.XRangeN(ctx, revokedName, from, "+", entriesPerRead).Result()
		if err != nil {
			return err
		}
		if pos != "" {
			if len(list) == 0 || list[0].ID != pos {
				v.resetPosition()
				continue
			}
			list = list[1:]
		}
		for _, m := range list {
			var e revocationEntry
			if text, ok := m.Values["r"].(string); ok && decodeValue(revokedName, text, &e) == nil {
				v.apply(e, revoke, deleted)
			}
			v.mu.Lock()
			v.lastID = m.ID
			v.mu.Unlock()
		}
		if len(list) < entriesPerRead-1 {
			return nil
		}
	}
}

// resetPosition has everything be read and applied anew.
func (v *revocations) resetPosition() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lastID, v.dataLost = "", true
}

// reapplyDue reports whether it is time to look for what has come back.
func (v *revocations) reapplyDue(now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expire(now)
	for nonce, at := range v.unconfirmed {
		if now.Sub(at) > ownEntryTimeout {
			delete(v.unconfirmed, nonce)
			v.dataLost = true
		}
	}
	if !v.dataLost && now.Sub(v.reappliedAt) < reapplyInterval {
		return false
	}
	v.dataLost, v.reappliedAt = false, now
	return true
}

// rooms returns the rooms of all that is revoked by now.
func (v *revocations) rooms(now time.Time) []string {
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

// reapply removes what was revoked and has come back: in a replica that took over before it had
// heard, or from a copy. The other servers are told as of any revocation.
func (s *Store) reapply(ctx context.Context) {
	now := time.Now()
	if !s.revocations.reapplyDue(now) {
		return
	}
	for rooms := range slices.Chunk(s.revocations.rooms(now), roomsPerBatch) {
		if err := s.reapplyTo(ctx, rooms); err != nil {
			s.revocations.mu.Lock()
			s.revocations.dataLost = true
			s.revocations.mu.Unlock()
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
		if err != nil || len(s.revocations.without(old)) == len(old) {
			continue
		}
		var back []domain.KeyRef
		for _, k := range old {
			if s.revocations.has(k.Ref()) {
				back = append(back, k.Ref())
			}
		}
		err = s.update(ctx, name, func(keys []domain.Key) (roomUpdate, error) {
			return roomUpdate{keys: keys, revoke: back, due: time.Now()}, nil
		})
		if err != nil {
			return err
		}
		s.opt.Log.Warn("Redis had forgotten a revocation, which is made again", "room", name, "keys", len(back))
	}
	return nil
}
