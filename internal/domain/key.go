package domain

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"
)

// KeyLength is the length of a push key in characters.
const KeyLength = 48

// Role tells a room's main encoder from its spare.
type Role uint8

// Roles of a publisher.
const (
	Primary Role = iota
	Backup
)

func (r Role) String() string {
	if r == Backup {
		return "backup"
	}
	return "primary"
}

// A KeyRef names one secret for ever: a rotated key keeps its ID and gets a new generation. The zero KeyRef is no key.
type KeyRef struct {
	ID         string
	Generation uint64
}

// A Key is the record of one push key. A room may have many; the one with an empty Label is its default key.
type Key struct {
	ID         string
	Room       string
	App        string // the only app it is good for; "" for every app
	Label      string
	Role       Role
	Created    time.Time // of this generation
	Expires    time.Time // zero: never
	LastUsed   time.Time // zero: never
	Generation uint64    // counts from 1
	Digest     [32]byte  // Digest(Secret), by which it is looked up
	Secret     string    // the key itself: /control/get must give it again
}

// Ref returns the name of k's present secret.
func (k Key) Ref() KeyRef { return KeyRef{k.ID, k.Generation} }

// KeyStore is the store of rooms and their push keys. Every method is atomic and durable when it
// returns, and safe for concurrent use. App "" means a key that is good in every app; app and room
// must have been checked by the caller (CheckApp, CheckRoom). Errors are of kind NotFound, Denied,
// Conflict, Limit, Unavailable (the store is out of reach) or Internal.
type KeyStore interface {
	// Get returns the default key of room for app, making room and key when absent.
	Get(ctx context.Context, app, room string) (Key, error)
	// Rotate gives the default key of room for app a new secret, making it when absent. It returns the new key and what is
	// revoked: at once, or when o.Grace is over.
	Rotate(ctx context.Context, app, room string, o Rotation) (Key, []KeyRef, error)
	// Add stores a further key. Of k it takes Room, App, Label, Role and Expires, and what else is
	// set; ID, Secret and the like are made where they are empty. Conflict when the room has a key of
	// that app and label, or the ID or Secret is in use; Limit when the room has MaxKeys.
	Add(ctx context.Context, k Key) (Key, error)
	// Revoke removes one key. NotFound when there is none of that ID.
	Revoke(ctx context.Context, id string) ([]KeyRef, error)
	// Resolve returns the key whose secret this is, good for app and not expired; Denied otherwise, in
	// one text for all causes.
	Resolve(ctx context.Context, app, secret string) (Key, error)
	// Delete removes the room's keys: all of them for app "", else those bound to app. NotFound when there are none.
	Delete(ctx context.Context, app, room string) ([]KeyRef, error)
	// List returns the keys of room, or of every room for "", ordered by room, app and label, with Secret empty.
	List(ctx context.Context, room string) ([]Key, error)
	// Page is List for the first limit rooms whose names come after the given one: "" begins with the first.
	Page(ctx context.Context, after string, limit int) ([]Key, error)
	// Dump is List for every room with the secrets: what a copy of the store is made of.
	Dump(ctx context.Context) ([]Key, error)
	// Touch records that ref was used at t. It may be lost in a crash; an unknown ref is no error.
	Touch(ctx context.Context, ref KeyRef, t time.Time) error
}

// A Rotation says what becomes of the key that is replaced, and of the others.
type Rotation struct {
	RevokeOthers bool          // every other key of the room is revoked too
	Grace        time.Duration // how long the replaced key stays good; 0 not at all. It does nothing with All
}

// MaxKeys is how many keys a room may have.
const MaxKeys = 256

// FormerLabel is the label of a default key that was replaced and is still good for a while. No
// label that CheckLabel lets through is like it.
const FormerLabel = "~"

// Complete returns k with what is missing made: ID, Secret and its Digest, Generation and Created.
func (k Key) Complete() Key {
	if k.ID == "" {
		k.ID = NewSecret()[:16]
	}
	if k.Secret == "" {
		k.Secret = NewSecret()
	}
	if k.Created.IsZero() {
		k.Created = time.Now()
	}
	for _, at := range []*time.Time{&k.Created, &k.Expires, &k.LastUsed} {
		*at = at.UTC().Round(0) // as it will be read back
	}
	k.Generation = max(k.Generation, 1)
	k.Digest = Digest(k.Secret)
	return k
}

// Former returns k as it stays good for grace after it was replaced: under an ID and label of its own.
func (k Key) Former(grace time.Duration) Key {
	until := time.Now().Add(grace).UTC().Round(0)
	if k.Expires.IsZero() || until.Before(k.Expires) {
		k.Expires = until
	}
	k.ID, k.Generation, k.Label = NewSecret()[:16], 1, FormerLabel
	return k
}

// ValidFor reports whether k opens app at t.
func (k Key) ValidFor(app string, t time.Time) bool {
	return (k.App == "" || k.App == app) && (k.Expires.IsZero() || t.Before(k.Expires))
}

// Counter hands out numbers that are never given twice, over restarts and crashes too, and only rise.
type Counter interface {
	// Reserve returns the first of n fresh numbers.
	Reserve(ctx context.Context, n uint64) (uint64, error)
}

// OneTimeTokenStore remembers what is good one time only, over restarts and on every server with the same store.
type OneTimeTokenStore interface {
	// Consume reports whether id is spent for the first time, and remembers it until then: a time
	// after which it is good no longer in any case. Errors are of kind Unavailable or Internal.
	Consume(ctx context.Context, id [16]byte, until time.Time) (bool, error)
	// Consumed reports whether id, which is good no longer after until, has been spent. Errors are as of Spend.
	Consumed(ctx context.Context, id [16]byte, until time.Time) (bool, error)
}

// NewSecret returns a fresh push key: 48 characters of [0-9a-zA-Z], 285 bits from crypto/rand.
func NewSecret() string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	key := make([]byte, 0, KeyLength)
	var buf [64]byte
	for {
		rand.Read(buf[:]) // never fails: it ends the process instead
		for _, b := range buf {
			// 248 is the largest multiple of 62 in a byte: what is above would make the first digits likelier.
			if b < 248 {
				if key = append(key, digits[b%62]); len(key) == KeyLength {
					return string(key)
				}
			}
		}
	}
}

// Digest returns the SHA-256 of a secret. Stores look keys up by it, so that the time a look-up
// takes tells nothing of the key.
func Digest(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// LooksLikeKey reports whether s has the form of a push key. No room may have such a name.
func LooksLikeKey(s string) bool {
	if len(s) != KeyLength {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isBase62(s[i]) {
			return false
		}
	}
	return true
}

// Shorten returns the first n bytes of s, free text, as valid UTF-8. It leaves out the start of
// what may hold a push key and does not fit: what hides keys in texts recognizes whole ones only.
func Shorten(s string, n int) string {
	if len(s) > n {
		from, to := n, n
		for from > 0 && n-from < KeyLength && isBase62(s[from-1]) {
			from--
		}
		for to < len(s) && to-from < KeyLength && isBase62(s[to]) {
			to++
		}
		if n-from < KeyLength && to-from >= KeyLength {
			n = from
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// LabelConflict returns the Error for a key whose room has one of this label already.
func LabelConflict(k Key) error {
	if k.Label == "" {
		return Errorf(Conflict, "room %s has a default key already: a further key needs a label, and a reset makes a new "+
			"default key", k.Room)
	}
	return Errorf(Conflict, "room %s has a key %q already", k.Room, k.Label)
}
