// Package bolt stores rooms, stream keys and counters in one bbolt file of the data directory. It
// implements domain.Store. Every operation is one transaction, durable before the call returns; reads
// of unknown names change nothing. It knows nothing of streams and clients.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"

	"livego/internal/domain"
)

// A Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	db       *bbolt.DB
	updating atomic.Int32 // updates in progress
}

// Room implements domain.RoomStore.
func (s *Store) Room(ctx context.Context, room string) (keys []domain.Key, err error) {
	err = s.view(ctx, func(t tables) error {
		keys, err = t.room(room)
		return err
	})
	return keys, err
}

// Rooms implements domain.RoomStore, in one transaction.
func (s *Store) Rooms(ctx context.Context, after string, limit int) (keys []domain.Key, err error) {
	from := []byte(after)
	if after != "" {
		from = append(from, 1) // after all keys of that room, whose name is followed by a NUL
	}
	err = s.view(ctx, func(t tables) error {
		rooms, last := 0, after
		c := t.rooms.Cursor()
		for name, id := c.Seek(from); name != nil; name, id = c.Next() {
			k, err := t.key(id)
			if err != nil {
				return err
			}
			if k.Room != last {
				if rooms++; limit > 0 && rooms > limit {
					return nil
				}
				last = k.Room
			}
			keys = append(keys, k)
		}
		return nil
	})
	return keys, err
}

// FindKey implements domain.RoomStore.
func (s *Store) FindKey(ctx context.Context, digest [32]byte) (k domain.Key, found bool, err error) {
	err = s.view(ctx, func(t tables) error {
		id := t.digests.Get(digest[:])
		if id == nil {
			return nil
		}
		k, err = t.key(id)
		found = err == nil
		return err
	})
	return k, found, err
}

// FindRoom implements domain.RoomStore.
func (s *Store) FindRoom(ctx context.Context, id string) (room string, err error) {
	err = s.view(ctx, func(t tables) error {
		if t.keys.Get([]byte(id)) == nil {
			return nil
		}
		k, err := t.key([]byte(id))
		room = k.Room
		return err
	})
	return room, err
}

// Update implements domain.RoomStore. There are no other servers to tell of the change.
func (s *Store) Update(ctx context.Context, room string,
	change func([]domain.Key) (domain.RoomChange, error)) error {
	return s.update(ctx, func(t tables) error {
		old, err := t.room(room)
		if err != nil {
			return err
		}
		c, err := change(slices.Clone(old))
		if err != nil {
			return err
		}
		return t.replace(old, c.Keys)
	})
}

// NextGeneration implements domain.RoomStore: no generation is ever lost.
func (s *Store) NextGeneration(k domain.Key) uint64 { return k.Generation + 1 }

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

// Ready implements domain.Store: an open file is available.
func (s *Store) Ready() error { return nil }

// Run implements domain.Store. There is no background work.
func (s *Store) Run(ctx context.Context, _ func([]domain.KeyRef, bool), _ func(app, room string)) {
	<-ctx.Done()
}

// Files implements domain.Store: no other server shares the file.
func (s *Store) Files() domain.SharedFiles { return nil }

// Close waits for pending operations and closes the file. Later calls return an Error of kind
// Unavailable.
func (s *Store) Close() error { return s.db.Close() }

func (s *Store) view(ctx context.Context, fn func(tables) error) error {
	if err := ctx.Err(); err != nil {
		return wrap(err)
	}
	return wrap(s.db.View(func(tx *bbolt.Tx) error { return fn(open(tx)) }))
}

// update calls fn in a transaction. While others are in progress, it waits some milliseconds for
// updates that share its transaction and disk sync; fn may then be called again, in another
// transaction.
func (s *Store) update(ctx context.Context, fn func(tables) error) error {
	if err := ctx.Err(); err != nil {
		return wrap(err)
	}
	apply := s.db.Update
	if s.updating.Add(1) > 1 {
		apply = s.db.Batch
	}
	defer s.updating.Add(-1)
	return wrap(apply(func(tx *bbolt.Tx) error { return fn(open(tx)) }))
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
//	keys     ID                        -> domain.Key without ID, JSON
//	digests  SHA-256 of the secret     -> ID
//	rooms    room \0 app \0 label      -> ID
type tables struct {
	meta, keys, digests, rooms *bbolt.Bucket
}

func open(tx *bbolt.Tx) tables {
	return tables{tx.Bucket(metaBucket), tx.Bucket(keysBucket), tx.Bucket(digestsBucket), tx.Bucket(roomsBucket)}
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
	var k domain.Key
	err := json.Unmarshal(data, &k)
	k.ID, k.Digest = string(id), domain.Digest(k.Secret)
	return k, err
}

// room returns the keys of room, ordered by app and label.
func (t tables) room(room string) (keys []domain.Key, err error) {
	prefix := roomKey(room, "")
	c := t.rooms.Cursor()
	for name, id := c.Seek(prefix); name != nil && bytes.HasPrefix(name, prefix); name, id = c.Next() {
		k, err := t.key(id)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// replace writes keys in the place of old, the keys of the same room.
func (t tables) replace(old, keys []domain.Key) error {
	for _, k := range old {
		if slices.Contains(keys, k) {
			continue
		}
		err := errors.Join(
			t.keys.Delete([]byte(k.ID)),
			t.digests.Delete(k.Digest[:]),
			t.rooms.Delete(roomKey(k.Room, k.App, k.Label)),
		)
		if err != nil {
			return err
		}
	}
	for _, k := range keys {
		if slices.Contains(old, k) {
			continue
		}
		if t.keys.Get([]byte(k.ID)) != nil || t.digests.Get(k.Digest[:]) != nil {
			return domain.ErrKeyInUse
		}
		if err := t.put(k); err != nil {
			return err
		}
	}
	return nil
}

// put writes a new key.
func (t tables) put(k domain.Key) error {
	id := []byte(k.ID)
	k.ID = ""
	data, err := json.Marshal(k)
	return errors.Join(
		err,
		t.keys.Put(id, data),
		t.digests.Put(k.Digest[:], id),
		t.rooms.Put(roomKey(k.Room, k.App, k.Label), id),
	)
}
