// Package bolt stores rooms, stream keys and counters in one bbolt file of the data directory. It
// implements domain.KeyStore, domain.Counter and domain.OneTimeTokenStore. Every operation is one
// transaction, durable before the call returns; reads of unknown names change nothing. It knows
// nothing of streams and clients.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"

	"livego/internal/domain"
)

// A Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	db *bbolt.DB
}

// touchResolution is the resolution of LastUsed: an encoder that reconnects in a loop must not
// cause a disk sync each time.
const touchResolution = time.Minute

// errUnknownKey is the error for every secret that matches no valid key, whatever the cause.
var errUnknownKey = errors.New("unknown key")

// Get implements domain.KeyStore.
func (s *Store) Get(ctx context.Context, app, room string) (domain.Key, error) {
	var k domain.Key
	find := func(t tables) (found bool, err error) {
		k, found, err = t.lookup(room, app, "")
		return found, err
	}
	// Nearly always the key exists, and a read needs no lock and no disk sync.
	var found bool
	err := s.view(ctx, func(t tables) (err error) {
		found, err = find(t)
		return err
	})
	if err != nil || found {
		return k, err
	}
	err = s.update(ctx, func(t tables) error {
		if found, err := find(t); err != nil || found {
			return err
		}
		k = domain.Key{App: app, Room: room}.Complete()
		return t.put(k)
	})
	return k, err
}

// Rotate implements domain.KeyStore. The keys that o.RevokeOthers revokes are removed.
func (s *Store) Rotate(ctx context.Context, app, room string, o domain.Rotation) (domain.Key, []domain.KeyRef, error) {
	var k domain.Key
	var revoked []domain.KeyRef
	err := s.update(ctx, func(t tables) error {
		former, found, err := t.lookup(room, app, domain.FormerLabel)
		if err != nil {
			return err
		}
		if found {
			revoked = append(revoked, former.Ref())
			if err := t.remove(former); err != nil {
				return err
			}
		}
		old, found, err := t.lookup(room, app, "")
		if err != nil {
			return err
		}
		k = domain.Key{App: app, Room: room}.Complete()
		if found {
			revoked = append(revoked, old.Ref())
			k.ID, k.Role, k.Generation = old.ID, old.Role, old.Generation+1
			if err := t.remove(old); err != nil {
				return err
			}
		}
		if found && o.Grace > 0 && !o.RevokeOthers {
			f := old.Former(o.Grace)
			revoked = append(revoked, f.Ref())
			if err := t.put(f); err != nil {
				return err
			}
		}
		if o.RevokeOthers {
			others, err := t.removeRoom(room, "")
			if err != nil {
				return err
			}
			revoked = append(revoked, others...)
		}
		return t.put(k)
	})
	if err != nil {
		return domain.Key{}, nil, err
	}
	return k, revoked, nil
}

// Add implements domain.KeyStore.
func (s *Store) Add(ctx context.Context, k domain.Key) (domain.Key, error) {
	k = k.Complete()
	err := s.update(ctx, func(t tables) error {
		if t.rooms.Get(roomKey(k.Room, k.App, k.Label)) != nil {
			return domain.LabelConflict(k)
		}
		if t.keys.Get([]byte(k.ID)) != nil || t.digests.Get(k.Digest[:]) != nil {
			return domain.Errorf(domain.Conflict, "a key with this ID or secret already exists")
		}
		n := 0
		if err := t.each(k.Room, func(domain.Key) error { n++; return nil }); err != nil {
			return err
		}
		if n >= domain.MaxKeys {
			return domain.Errorf(domain.Limit, "room %s already has %d keys, the maximum", k.Room, n)
		}
		return t.put(k)
	})
	if err != nil {
		return domain.Key{}, err
	}
	return k, nil
}

// Revoke implements domain.KeyStore.
func (s *Store) Revoke(ctx context.Context, id string) ([]domain.KeyRef, error) {
	var refs []domain.KeyRef
	err := s.update(ctx, func(t tables) error {
		if t.keys.Get([]byte(id)) == nil {
			return domain.Errorf(domain.NotFound, "no key with this id")
		}
		k, err := t.key([]byte(id))
		if err != nil {
			return err
		}
		refs = []domain.KeyRef{k.Ref()}
		return t.remove(k)
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// Resolve implements domain.KeyStore.
func (s *Store) Resolve(ctx context.Context, app, secret string) (domain.Key, error) {
	var k domain.Key
	err := s.view(ctx, func(t tables) error {
		digest := domain.Digest(secret)
		id := t.digests.Get(digest[:])
		if id == nil {
			return denied()
		}
		var err error
		if k, err = t.key(id); err != nil {
			return err
		}
		if !k.ValidFor(app, time.Now()) {
			return denied()
		}
		return nil
	})
	if err != nil {
		return domain.Key{}, err
	}
	return k, nil
}

// Delete implements domain.KeyStore.
func (s *Store) Delete(ctx context.Context, app, room string) ([]domain.KeyRef, error) {
	var refs []domain.KeyRef
	err := s.update(ctx, func(t tables) (err error) {
		if refs, err = t.removeRoom(room, app); err == nil && len(refs) == 0 {
			err = domain.Errorf(domain.NotFound, "room not found")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// List implements domain.KeyStore.
func (s *Store) List(ctx context.Context, room string) ([]domain.Key, error) {
	var keys []domain.Key
	err := s.view(ctx, func(t tables) error {
		return t.each(room, func(k domain.Key) error {
			k.Secret = ""
			keys = append(keys, k)
			return nil
		})
	})
	return keys, err
}

// Page implements domain.KeyStore.
func (s *Store) Page(ctx context.Context, after string, limit int) ([]domain.Key, error) {
	var keys []domain.Key
	err := s.view(ctx, func(t tables) error {
		from := []byte(after)
		if after != "" {
			from = append(from, 1) // after all keys of that room, whose name is followed by a NUL
		}
		rooms, last := 0, after
		c := t.rooms.Cursor()
		for name, id := c.Seek(from); name != nil; name, id = c.Next() {
			k, err := t.key(id)
			if err != nil {
				return err
			}
			if k.Room != last {
				if rooms++; rooms > limit {
					return nil
				}
				last = k.Room
			}
			k.Secret = ""
			keys = append(keys, k)
		}
		return nil
	})
	return keys, err
}

// Dump implements domain.KeyStore.
func (s *Store) Dump(ctx context.Context) ([]domain.Key, error) {
	var keys []domain.Key
	err := s.view(ctx, func(t tables) error {
		return t.each("", func(k domain.Key) error {
			keys = append(keys, k)
			return nil
		})
	})
	return keys, err
}

// Touch implements domain.KeyStore. Times are stored to the minute; concurrent touches share a
// transaction.
func (s *Store) Touch(ctx context.Context, ref domain.KeyRef, at time.Time) error {
	stale := func(t tables) (domain.Key, bool, error) {
		if t.keys.Get([]byte(ref.ID)) == nil {
			return domain.Key{}, false, nil
		}
		k, err := t.key([]byte(ref.ID))
		return k, err == nil && k.Generation == ref.Generation && at.Sub(k.LastUsed) >= touchResolution, err
	}
	var due bool
	err := s.view(ctx, func(t tables) (err error) {
		_, due, err = stale(t)
		return err
	})
	if err != nil || !due {
		return err
	}
	return wrap(s.db.Batch(func(tx *bbolt.Tx) error {
		t := open(tx)
		k, due, err := stale(t)
		if err != nil || !due {
			return err
		}
		k.LastUsed = at.UTC().Round(0)
		return t.write(k)
	}))
}

// Reserve implements domain.Counter.
func (s *Store) Reserve(ctx context.Context, n uint64) (uint64, error) {
	var first uint64
	err := s.update(ctx, func(t tables) error {
		next, err := readUint(t.meta, counterKey)
		if err != nil {
			return err
		}
		if next+n < next {
			return errors.New("counter overflow")
		}
		first = next
		return writeUint(t.meta, counterKey, next+n)
	})
	if err != nil {
		return 0, err
	}
	return first, nil
}

// Consume implements domain.OneTimeTokenStore.
func (s *Store) Consume(ctx context.Context, id [16]byte, until time.Time) (bool, error) {
	// A read needs no lock and no disk sync, so repeated use of a token delays no other client.
	known, err := s.IsConsumed(ctx, id, until)
	if err != nil || known {
		return false, err
	}
	name, first := consumedKey(id, until), false
	err = s.update(ctx, func(t tables) error {
		spent, err := t.meta.Tx().CreateBucketIfNotExists(consumedBucket) // files of earlier versions have no such bucket
		if err != nil {
			return err
		}
		now := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()))
		c := spent.Cursor()
		for k, _ := c.First(); k != nil && bytes.Compare(k, now) < 0; k, _ = c.First() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		if first = spent.Get(name) == nil; !first {
			return nil
		}
		return spent.Put(name, []byte{})
	})
	return first && err == nil, err
}

// IsConsumed implements domain.OneTimeTokenStore.
func (s *Store) IsConsumed(ctx context.Context, id [16]byte, until time.Time) (known bool, err error) {
	err = s.view(ctx, func(t tables) error {
		spent := t.meta.Tx().Bucket(consumedBucket)
		known = spent != nil && spent.Get(consumedKey(id, until)) != nil
		return nil
	})
	return known, err
}

// consumedKey returns the key of a consumed token. It starts with the token's end, so that expired
// entries come first.
func consumedKey(id [16]byte, until time.Time) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(max(0, until.Unix()))), id[:]...)
}

// Close waits for pending operations and closes the file. Later calls return an Error of kind
// Unavailable.
func (s *Store) Close() error { return s.db.Close() }

func denied() error { return &domain.Error{Kind: domain.Denied, Err: errUnknownKey} }

func (s *Store) view(ctx context.Context, fn func(tables) error) error {
	if err := ctx.Err(); err != nil {
		return wrap(err)
	}
	return wrap(s.db.View(func(tx *bbolt.Tx) error { return fn(open(tx)) }))
}

func (s *Store) update(ctx context.Context, fn func(tables) error) error {
	if err := ctx.Err(); err != nil {
		return wrap(err)
	}
	return wrap(s.db.Update(func(tx *bbolt.Tx) error { return fn(open(tx)) }))
}

// wrap gives errors of bbolt a kind, and returns errors that have one unchanged.
func wrap(err error) error {
	var known *domain.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, bolterr.ErrDatabaseNotOpen), errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):
		return &domain.Error{Kind: domain.Unavailable, Op: "key store", Err: err}
	}
	return &domain.Error{Kind: domain.Internal, Op: "key store", Err: err}
}

// tables are the buckets of one transaction:
//
//	meta     version, counter          big-endian uint64
//	keys     ID                        -> record, JSON
//	digests  SHA-256 of the secret     -> ID
//	rooms    room \0 app \0 label      -> ID
type tables struct {
	meta, keys, digests, rooms *bbolt.Bucket
}

func open(tx *bbolt.Tx) tables {
	return tables{tx.Bucket(metaBucket), tx.Bucket(keysBucket), tx.Bucket(digestsBucket), tx.Bucket(roomsBucket)}
}

// record is a domain.Key as it is stored. The digest is not stored twice.
type record struct {
	Room       string      `json:"room"`
	App        string      `json:"app,omitempty"`
	Label      string      `json:"label,omitempty"`
	Role       domain.Role `json:"role,omitempty"`
	Created    time.Time   `json:"created"`
	Expires    time.Time   `json:"expires,omitzero"`
	LastUsed   time.Time   `json:"last_used,omitzero"`
	Generation uint64      `json:"generation"`
	Secret     string      `json:"secret"`
}

// roomKey joins parts so that keys sort by room, app and label: no name contains a NUL.
func roomKey(parts ...string) []byte {
	var b []byte
	for i, p := range parts {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, p...)
	}
	return b
}

// key reads the record that an index entry refers to.
func (t tables) key(id []byte) (domain.Key, error) {
	data := t.keys.Get(id)
	if data == nil {
		return domain.Key{}, errors.New("index entry without a key")
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return domain.Key{}, err
	}
	return domain.Key{
		ID: string(id), Room: r.Room, App: r.App, Label: r.Label, Role: r.Role, Created: r.Created, Expires: r.Expires,
		LastUsed: r.LastUsed, Generation: r.Generation, Digest: domain.Digest(r.Secret), Secret: r.Secret,
	}, nil
}

func (t tables) lookup(room, app, label string) (k domain.Key, found bool, err error) {
	id := t.rooms.Get(roomKey(room, app, label))
	if id == nil {
		return domain.Key{}, false, nil
	}
	k, err = t.key(id)
	return k, err == nil, err
}

// each calls fn for the keys of room, or of every room for "", in the order of List.
func (t tables) each(room string, fn func(domain.Key) error) error {
	var prefix []byte
	if room != "" {
		prefix = roomKey(room, "")
	}
	c := t.rooms.Cursor()
	for name, id := c.Seek(prefix); name != nil && bytes.HasPrefix(name, prefix); name, id = c.Next() {
		k, err := t.key(id)
		if err != nil {
			return err
		}
		if err := fn(k); err != nil {
			return err
		}
	}
	return nil
}

// removeRoom removes the keys of room, or for an app other than "" only those bound to it.
func (t tables) removeRoom(room, app string) ([]domain.KeyRef, error) {
	var removed []domain.Key
	err := t.each(room, func(k domain.Key) error {
		if app == "" || k.App == app {
			removed = append(removed, k)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var refs []domain.KeyRef
	for _, k := range removed {
		if err := t.remove(k); err != nil {
			return nil, err
		}
		refs = append(refs, k.Ref())
	}
	return refs, nil
}

func (t tables) put(k domain.Key) error {
	digest := domain.Digest(k.Secret)
	return errors.Join(
		t.write(k),
		t.digests.Put(digest[:], []byte(k.ID)),
		t.rooms.Put(roomKey(k.Room, k.App, k.Label), []byte(k.ID)),
	)
}

// write replaces the record of a key whose secret, room, app and label are unchanged.
func (t tables) write(k domain.Key) error {
	data, err := json.Marshal(record{
		k.Room, k.App, k.Label, k.Role, k.Created, k.Expires, k.LastUsed, k.Generation, k.Secret,
	})
	if err != nil {
		return err
	}
	return t.keys.Put([]byte(k.ID), data)
}

func (t tables) remove(k domain.Key) error {
	return errors.Join(
		t.keys.Delete([]byte(k.ID)),
		t.digests.Delete(k.Digest[:]),
		t.rooms.Delete(roomKey(k.Room, k.App, k.Label)),
	)
}
