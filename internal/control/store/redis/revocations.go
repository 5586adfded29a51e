package redis

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"livego/internal/domain"
)

const (
	// revocationTTL is how long a revocation is remembered, here and in Redis.
	revocationTTL = 24 * time.Hour
	// maxRevoked bounds the remembered revocations: about 100 MB. Beyond that, the oldest are
	// forgotten early.
	maxRevoked = 500_000
	// entriesPerRead is how many entries of the stream are read at a time.
	entriesPerRead = 500
	// reapplyInterval is the interval of checks for revoked keys that have reappeared unnoticed.
	reapplyInterval = time.Minute
	// ownEntryTimeout is how soon an entry that this server wrote must appear in the stream; else
	// Redis has lost it.
	ownEntryTimeout = 2 * time.Second
)

// A revokeFunc disconnects the publishers that use one of refs. With end their streams end, else
// they are held.
type revokeFunc func(refs []domain.KeyRef, end bool)

// A revocationEntry is one revocation in the stream.
type revocationEntry struct {
	Nonce string          `json:"nonce"`
	Room  string          `json:"room"`
	App   string          `json:"app,omitempty"` // with End: the only app whose keys are removed; "": all of them
	Refs  []domain.KeyRef `json:"refs"`
	End   bool            `json:"end,omitempty"`
	At    time.Time       `json:"at"`
	Due   time.Time       `json:"due"` // the end of the grace period; else At
}

func newRevocationEntry(room string, c domain.RoomChange) revocationEntry {
	return revocationEntry{domain.NewSecret()[:16], room, c.App, c.Revoked, c.EndStreams, time.Now().UTC(), c.Due.UTC()}
}

// revocations are the revocations that this server knows.
type revocations struct {
	mu          sync.Mutex
	refs        map[domain.KeyRef]revocation
	byID        map[string]uint64    // the highest revoked generation of each key
	order       []domain.KeyRef      // in the order of arrival
	unconfirmed map[string]time.Time // entries of this server that have not appeared in the stream yet, by nonce
	timers      map[*time.Timer]struct{}

	lastID      string    // of the last entry read; "" for none
	reappliedAt time.Time // when reapply was last complete
	dataLost    bool      // Redis has lost data
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

// without returns keys without the revoked ones.
func (v *revocations) without(keys []domain.Key) []domain.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k domain.Key) bool { return v.has(k.Ref()) })
}

// generation returns the highest revoked generation of a key: a new secret needs a higher one.
func (v *revocations) generation(id string) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.byID[id]
}

// addOwn adds a revocation of this server.
func (v *revocations) addOwn(e revocationEntry, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unconfirmed[e.Nonce] = now
	v.add(e)
}

// add adds e, and reports whether it was new. The caller holds v.mu.
func (v *revocations) add(e revocationEntry) (isNew bool) {
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
		isNew = true
	}
	return isNew
}

// expire removes revocations that are older than a day, or too many. The caller holds v.mu.
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

// apply adds an entry of the stream and calls revoke when it is due. It calls deleted for a room
// that another server deleted, once: a known entry is this server's own, or the stream is being
// read again.
func (v *revocations) apply(e revocationEntry, revoke revokeFunc, deleted func(app, room string)) {
	now := time.Now()
	if now.Sub(e.At) > revocationTTL {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.unconfirmed, e.Nonce)
	isNew := v.add(e)
	wait := e.Due.Sub(now)
	if wait <= 0 {
		v.mu.Unlock()
		revoke(e.Refs, e.End)
		if e.End && isNew {
			deleted(e.App, e.Room)
		}
		v.mu.Lock()
		return
	}
	var t *time.Timer
	t = time.AfterFunc(wait, func() {
		v.mu.Lock()
		_, active := v.timers[t]
		delete(v.timers, t)
		v.mu.Unlock()
		if active {
			revoke(e.Refs, e.End)
		}
	})
	v.timers[t] = struct{}{}
}

// stop cancels revocations that are not due yet: there are no publishers left to disconnect.
func (v *revocations) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for t := range v.timers {
		t.Stop()
		delete(v.timers, t)
	}
}

// readRevocations reads the stream from the last entry on. If that entry is missing, Redis has lost
// data.
func (s *Store) readRevocations(ctx context.Context, revoke revokeFunc, deleted func(app, room string)) error {
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

// resetPosition makes the next reads and checks start over.
func (v *revocations) resetPosition() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lastID, v.dataLost = "", true
}

// reapplyDue reports whether it is time to check for revoked keys that have reappeared.
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

// rooms returns the rooms of all keys that are revoked by now.
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

// reapply removes revoked keys that have reappeared: from a replica that became the master before
// it received the revocation, or from a backup. The other servers receive it like any revocation.
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
	values, err := s.readValues(ctx, len(rooms), func(i int) (string, int64) { return roomName + rooms[i], maxRoom })
	if err != nil {
		return err
	}
	for i, name := range rooms {
		old, _ := decodeRoom(name, values[i].Val()) // a foreign value has no keys
		var back []domain.KeyRef
		for _, k := range old {
			if s.revocations.has(k.Ref()) {
				back = append(back, k.Ref())
			}
		}
		if back == nil {
			continue
		}
		err = s.Update(ctx, name, func(keys []domain.Key) (domain.RoomChange, error) {
			return domain.RoomChange{Keys: keys, Revoked: back, Due: time.Now()}, nil
		})
		if err != nil {
			return err
		}
		s.opt.Log.Warn("revocation lost by Redis was applied again", "room", name, "keys", len(back))
	}
	return nil
}
