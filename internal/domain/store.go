package domain

import (
	"context"
	"time"
)

// A Store keeps what outlives a server: in a file of its own, or in a database that several servers
// share. Its methods are safe for concurrent use.
type Store interface {
	RoomStore
	Counter
	OneTimeTokenStore
	// Ready returns why the store is unavailable, nil if it is available.
	Ready() error
	// Run does the store's background work until ctx ends. It calls revoke for keys that another
	// server has revoked: their publishers must be disconnected, and with end their streams end. It
	// calls deleted for a room that another server has deleted, in app or for "" in every app.
	Run(ctx context.Context, revoke func(refs []KeyRef, end bool), deleted func(app, room string))
	// Files returns the files that all servers with this store share, nil if there is only one.
	Files() SharedFiles
	// Close releases the store. Later calls return an Error of kind Unavailable.
	Close() error
}

// A RoomStore stores the keys of rooms. It decides nothing about them. Every change is atomic, and
// durable when the call returns. Errors are of kind Conflict, Limit (too many requests at once),
// Unavailable (the store cannot be reached) or Internal.
type RoomStore interface {
	// Room returns the keys of room, ordered by app and label; none for an unknown room.
	Room(ctx context.Context, room string) ([]Key, error)
	// Rooms returns the keys of the first limit rooms whose names come after the given one, ordered
	// by room, app and label. "" starts with the first room; limit 0 means all rooms.
	Rooms(ctx context.Context, after string, limit int) ([]Key, error)
	// FindKey returns the key with this digest, valid or not. It reports false if there is none.
	FindKey(ctx context.Context, digest [32]byte) (Key, bool, error)
	// FindRoom returns the room of the key with this ID, "" if there is none.
	FindRoom(ctx context.Context, id string) (string, error)
	// Update changes the keys of room, of which any may be removed, added and modified. change gets
	// the keys as Room returns them and may modify the slice. It is called again if others have
	// changed the room meanwhile. Update returns its error and then changes nothing. A change that
	// leaves the keys as they are writes nothing. Update fails with ErrKeyInUse if another key has
	// the ID or secret of a new one.
	Update(ctx context.Context, room string, change func(keys []Key) (RoomChange, error)) error
	// NextGeneration returns a generation for the next secret of k: higher than k's and than that of
	// any reference to it that the store knows to be revoked.
	NextGeneration(k Key) uint64
}

// A RoomChange is the new state of a room, and what other servers must know of the change.
type RoomChange struct {
	Keys       []Key
	Revoked    []KeyRef  // from Due on
	Due        time.Time // the end of the grace period, or now
	EndStreams bool      // the streams of the revoked keys end
	App        string    // with EndStreams: the only app whose keys are removed; "": all
}

// ErrKeyInUse is the error for a new key whose ID or secret another key has.
var ErrKeyInUse = Errorf(Conflict, "a key with this ID or secret already exists")

// A Counter returns numbers that only rise and are never returned twice, even after restarts and
// crashes.
type Counter interface {
	// Reserve returns the first of n new numbers.
	Reserve(ctx context.Context, n uint64) (uint64, error)
}

// A OneTimeTokenStore records which one-time tokens were used, over restarts and for all servers
// that share the store.
type OneTimeTokenStore interface {
	// Consume reports whether id is used for the first time, and records that until the token
	// expires. Errors are of kind Unavailable or Internal.
	Consume(ctx context.Context, id [16]byte, until time.Time) (bool, error)
	// IsConsumed reports whether id, which expires at until, was used. Errors are as for Consume.
	IsConsumed(ctx context.Context, id [16]byte, until time.Time) (bool, error)
}

// SharedFiles are small files that several servers share, such as certificates, and locks by which
// one server does what the others wait for.
type SharedFiles interface {
	// Load returns a file and when it was saved; fs.ErrNotExist when there is none.
	Load(ctx context.Context, name string) ([]byte, time.Time, error)
	// Save writes files by their names: all of them, or none.
	Save(ctx context.Context, files map[string][]byte) error
	// Remove removes files. Missing files are no error.
	Remove(ctx context.Context, names ...string) error
	// Names returns the names of all files, in no order.
	Names(ctx context.Context) ([]string, error)
	// Lock acquires a lock for owner, or extends it, for the time lease; false while another owner
	// holds it.
	Lock(ctx context.Context, name, owner string, lease time.Duration) (bool, error)
	// Unlock releases a lock if owner still holds it.
	Unlock(ctx context.Context, name, owner string) error
}
