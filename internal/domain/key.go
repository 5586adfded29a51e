package domain

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// KeyLength is the length of a stream key in characters.
const KeyLength = 48

// Role distinguishes a room's primary encoder from its backup.
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

// A KeyRef identifies one secret: a rotated key keeps its ID and gets a new generation, so a KeyRef
// is never reused. The zero KeyRef is no key.
type KeyRef struct {
	ID         string
	Generation uint64
}

// A Key is the record of one stream key. A room may have many; the one with an empty Label is its
// default key. As JSON it is in the files of stores, which leave out what they derive.
type Key struct {
	ID         string    `json:"id,omitempty"`
	Room       string    `json:"room,omitempty"`
	App        string    `json:"app,omitempty"` // the only app in which it is valid; "": every app
	Label      string    `json:"label,omitempty"`
	Role       Role      `json:"role,omitempty"`
	Created    time.Time `json:"created"`            // of this generation
	Expires    time.Time `json:"expires,omitzero"`   // zero: never
	LastUsed   time.Time `json:"last_used,omitzero"` // zero: never
	Generation uint64    `json:"generation"`         // counts from 1
	// Description is free text about the room, in one of its keys.
	Description string   `json:"description,omitempty"`
	Digest      [32]byte `json:"-"`      // Digest(Secret), the index of look-ups
	Secret      string   `json:"secret"` // the key itself, because /control/get returns it again
}

// Ref returns the KeyRef of k's current secret.
func (k Key) Ref() KeyRef { return KeyRef{k.ID, k.Generation} }

// A KeyStore holds rooms and their stream keys. Every method is atomic and durable when it
// returns, and safe for concurrent use. App "" means a key that is valid in every app. The caller
// must check app and room first (CheckApp, CheckRoom). Errors are of kind NotFound, Denied,
// Conflict, Limit, Unavailable (the store cannot be reached) or Internal.
type KeyStore interface {
	// Get returns the default key of room for app, and creates room and key if they do not exist.
	Get(ctx context.Context, app, room string) (Key, error)
	// Create is Get for the key that is valid in every app. It reports whether the room is new. If
	// description is not nil, it replaces that of the room.
	Create(ctx context.Context, room string, description *string) (k Key, created bool, err error)
	// Describe replaces the description of room. It fails with NotFound if the room does not exist.
	Describe(ctx context.Context, room, description string) error
	// Rotate gives the default key of room for app a new secret, and creates the key if it does not
	// exist. It returns the new key and what is revoked: at once, or after o.Grace.
	Rotate(ctx context.Context, app, room string, o Rotation) (Key, []KeyRef, error)
	// RotateKey gives the key with that ID a new secret. It returns the new key and what is revoked: at once, or after
	// grace, which only a default key may have. It fails with NotFound if there is none with that ID.
	RotateKey(ctx context.Context, id string, grace time.Duration) (Key, []KeyRef, error)
	// Add stores another key. It uses the fields of k that are set and generates ID, Secret and the
	// like if they are empty. It fails with Conflict if the room has a key with that app and label,
	// or the ID or Secret is in use, and with Limit if the room has MaxKeys.
	Add(ctx context.Context, k Key) (Key, error)
	// Revoke removes one key. It fails with NotFound if there is none with that ID.
	Revoke(ctx context.Context, id string) ([]KeyRef, error)
	// Resolve returns the key with that secret, if it is valid for app and not expired. Otherwise
	// it fails with Denied, with the same text for all causes.
	Resolve(ctx context.Context, app, secret string) (Key, error)
	// Delete removes the room's keys: all of them for app "", otherwise those of app. It fails with
	// NotFound if there are none.
	Delete(ctx context.Context, app, room string) ([]KeyRef, error)
	// List returns the keys of room, or of every room for "", ordered by room, app and label, with
	// Secret empty.
	List(ctx context.Context, room string) ([]Key, error)
	// Page is List for the first limit rooms whose names come after the given one; "" starts with
	// the first room.
	Page(ctx context.Context, after string, limit int) ([]Key, error)
	// Dump is List for every room, with secrets, for a copy of the store.
	Dump(ctx context.Context) ([]Key, error)
	// Touch records that k, as the store returned it, was used at t. A crash may lose that; it is no
	// error if the store no longer has k.
	Touch(ctx context.Context, k Key, t time.Time) error
}

// Rotation holds the options of KeyStore.Rotate.
type Rotation struct {
	RevokeOthers bool          // revoke every other key of the room too
	Grace        time.Duration // how long the replaced key stays valid; ignored with RevokeOthers
}

// maxDescription is the longest description of a room, in bytes.
const maxDescription = 256

// CheckDescription returns an Error of kind Invalid if s cannot be the description of a room.
func CheckDescription(s string) error {
	if len(s) > maxDescription {
		return Errorf(Invalid, "invalid description: longer than %d bytes", maxDescription)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return Errorf(Invalid, "invalid description: has a control character")
	}
	return nil
}

// DescriptionOf returns the description of a room with these keys.
func DescriptionOf(keys []Key) string {
	for _, k := range keys {
		if k.Description != "" {
			return k.Description
		}
	}
	return ""
}

// MaxKeys is how many keys a room may have.
const MaxKeys = 256

// FormerLabel is the label of a replaced default key in its grace period. CheckLabel accepts no
// such label.
const FormerLabel = "~"

// Complete returns k with generated values for what is missing: ID, Secret and its Digest,
// Generation and Created.
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

// ValidFor reports whether k is valid for app at t.
func (k Key) ValidFor(app string, t time.Time) bool {
	return (k.App == "" || k.App == app) && (k.Expires.IsZero() || t.Before(k.Expires))
}

// NewSecret returns a new stream key: 48 characters of [0-9a-zA-Z], 285 bits from crypto/rand.
func NewSecret() string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	key := make([]byte, 0, KeyLength)
	var buf [64]byte
	for {
		rand.Read(buf[:]) // never returns an error: it crashes the program instead
		for _, b := range buf {
			// 248 is the largest multiple of 62 in a byte; larger values would favor the first digits.
			if b < 248 {
				if key = append(key, digits[b%62]); len(key) == KeyLength {
					return string(key)
				}
			}
		}
	}
}

// Digest returns the SHA-256 of a secret. Stores index keys by it, so that the time of a look-up
// reveals nothing about the key.
func Digest(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// LooksLikeKey reports whether s has the form of a stream key. No room may have such a name.
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

// Shorten returns the first n bytes of s, free text, as valid UTF-8. If a possible stream key does
// not fit, it omits the start of that too, because log redaction only recognizes whole keys.
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
