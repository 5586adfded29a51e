// Package keys decides which stream keys a room has: how keys are created, rotated, limited and
// revoked. It implements domain.KeyStore over a domain.RoomStore, which only stores them. It knows no
// database and no stream.
package keys

import (
	"context"
	"errors"
	"slices"
	"time"

	"livego/internal/domain"
)

// touchResolution is the resolution of LastUsed: an encoder that reconnects in a loop must not cause
// a write each time.
const touchResolution = time.Minute

// errUnknownKey is the error for every secret that matches no valid key, whatever the cause.
var errUnknownKey = errors.New("unknown key")

// Keys are the stream keys of all rooms. Its methods are safe for concurrent use.
type Keys struct{ rooms domain.RoomStore }

// New returns the keys in rooms.
func New(rooms domain.RoomStore) *Keys { return &Keys{rooms} }

// Get implements domain.KeyStore.
func (s *Keys) Get(ctx context.Context, app, room string) (domain.Key, error) {
	keys, err := s.rooms.Room(ctx, room)
	if err != nil {
		return domain.Key{}, err
	}
	if i := find(keys, app, ""); i >= 0 { // nearly always
		return keys[i], nil
	}
	var k domain.Key
	fresh := domain.Key{App: app, Room: room}.Complete()
	err = s.update(ctx, room, func(keys []domain.Key) (domain.RoomChange, error) {
		if i := find(keys, app, ""); i >= 0 {
			k = keys[i]
			return domain.RoomChange{Keys: keys}, nil
		}
		k = fresh
		return domain.RoomChange{Keys: append(keys, fresh)}, nil
	})
	if err != nil {
		return domain.Key{}, err
	}
	return k, nil
}

// Create implements domain.KeyStore.
func (s *Keys) Create(ctx context.Context, room string, description *string) (k domain.Key, created bool, err error) {
	fresh := domain.Key{Room: room}.Complete()
	err = s.rooms.Update(ctx, room, func(keys []domain.Key) (domain.RoomChange, error) {
		keys, created = slices.Clone(keys), len(keys) == 0
		if created {
			if err := domain.CheckNewRoom(room); err != nil {
				return domain.RoomChange{}, err
			}
		}
		i := find(keys, "", "")
		if i < 0 {
			i, keys = 0, slices.Insert(keys, 0, fresh)
		}
		if description != nil {
			describe(keys, *description)
		}
		k = keys[i]
		return domain.RoomChange{Keys: keys}, nil
	})
	return k, created && err == nil, err
}

// Describe implements domain.KeyStore.
func (s *Keys) Describe(ctx context.Context, room, description string) error {
	return s.rooms.Update(ctx, room, func(keys []domain.Key) (domain.RoomChange, error) {
		if len(keys) == 0 {
			return domain.RoomChange{}, domain.Errorf(domain.NotFound, "room not found")
		}
		keys = slices.Clone(keys)
		describe(keys, description)
		return domain.RoomChange{Keys: keys}, nil
	})
}

// describe makes text the description of the room of keys.
func describe(keys []domain.Key, text string) {
	for i := range keys {
		keys[i].Description = ""
	}
	keys[0].Description = text
}

// Rotate implements domain.KeyStore.
func (s *Keys) Rotate(ctx context.Context, app, room string, o domain.Rotation) (domain.Key, []domain.KeyRef, error) {
	var k domain.Key
	var change domain.RoomChange
	err := s.update(ctx, room, func(keys []domain.Key) (domain.RoomChange, error) {
		k, change = s.rotate(keys, domain.Key{App: app, Room: room}, o)
		return change, nil
	})
	if err != nil {
		return domain.Key{}, nil, err
	}
	return k, change.Revoked, nil
}

// RotateKey implements domain.KeyStore.
func (s *Keys) RotateKey(ctx context.Context, id string, grace time.Duration) (domain.Key, []domain.KeyRef, error) {
	room, err := s.findRoom(ctx, id)
	if err != nil {
		return domain.Key{}, nil, err
	}
	var k domain.Key
	var change domain.RoomChange
	err = s.update(ctx, room, func(keys []domain.Key) (domain.RoomChange, error) {
		i := slices.IndexFunc(keys, func(k domain.Key) bool { return k.ID == id })
		switch {
		case i < 0:
			return domain.RoomChange{}, domain.Errorf(domain.NotFound, unknownID)
		case keys[i].Label == domain.FormerLabel:
			return domain.RoomChange{}, domain.Errorf(domain.Invalid, "the key was replaced already")
		case keys[i].Label != "" && grace > 0:
			return domain.RoomChange{}, domain.Errorf(domain.Invalid, "invalid grace: only for a key without a label")
		}
		k, change = s.rotate(keys, domain.Key{App: keys[i].App, Room: room, Label: keys[i].Label},
			domain.Rotation{Grace: grace})
		return change, nil
	})
	if err != nil {
		return domain.Key{}, nil, err
	}
	return k, change.Revoked, nil
}

// rotate returns the key that replaces the one of keys with the app and the label of k, and the change.
func (s *Keys) rotate(keys []domain.Key, k domain.Key, o domain.Rotation) (domain.Key, domain.RoomChange) {
	k = k.Complete()
	change := domain.RoomChange{Due: time.Now()}
	for _, old := range keys {
		replaced := old.App == k.App && old.Label == k.Label
		earlier := old.App == k.App && k.Label == "" && old.Label == domain.FormerLabel
		if !o.RevokeOthers && !replaced && !earlier {
			change.Keys = append(change.Keys, old)
			continue
		}
		change.Revoked = append(change.Revoked, refs(keys, old)...)
		if !replaced {
			continue
		}
		k.ID, k.Role, k.Generation, k.Expires = old.ID, old.Role, s.rooms.NextGeneration(old), old.Expires
		if o.Grace > 0 && !o.RevokeOthers {
			change.Due = change.Due.Add(o.Grace)
			f := former(old, change.Due)
			change.Revoked = append(change.Revoked, f.Ref())
			change.Keys = append(change.Keys, f)
		}
	}
	change.Keys = append(change.Keys, k)
	return k, change
}

// former returns k as the room keeps it after a rotation, with an ID and label of its own. It keeps its
// generation, so that refs knows its reference before the rotation.
func former(k domain.Key, until time.Time) domain.Key {
	if until = until.UTC().Round(0); k.Expires.IsZero() || until.Before(k.Expires) {
		k.Expires = until
	}
	k.ID, k.Label = domain.NewSecret()[:16], domain.FormerLabel
	return k
}

// refs returns the references under which k, one of keys, may have been used. A publisher that started
// before its key was replaced uses that key as the default key that it was then.
func refs(keys []domain.Key, k domain.Key) []domain.KeyRef {
	all := []domain.KeyRef{k.Ref()}
	if i := find(keys, k.App, ""); k.Label == domain.FormerLabel && i >= 0 && k.Generation < keys[i].Generation {
		all = append(all, domain.KeyRef{ID: keys[i].ID, Generation: k.Generation})
	}
	return all
}

// Add implements domain.KeyStore.
func (s *Keys) Add(ctx context.Context, k domain.Key) (domain.Key, error) {
	k = k.Complete()
	err := s.update(ctx, k.Room, func(keys []domain.Key) (domain.RoomChange, error) {
		switch {
		case find(keys, k.App, k.Label) >= 0 && k.Label == "":
			return domain.RoomChange{}, domain.Errorf(domain.Conflict, "room %s already has a default key: give another "+
				"key a label, or reset the room to replace the default key", k.Room)
		case find(keys, k.App, k.Label) >= 0:
			return domain.RoomChange{}, domain.Errorf(domain.Conflict, "room %s already has a key with the label %q", k.Room,
				k.Label)
		case slices.ContainsFunc(keys, func(o domain.Key) bool { return o.ID == k.ID || o.Secret == k.Secret }):
			return domain.RoomChange{}, domain.ErrKeyInUse
		case len(keys) >= domain.MaxKeys:
			return domain.RoomChange{}, domain.Errorf(domain.Limit, "room %s already has %d keys, the maximum", k.Room,
				len(keys))
		}
		return domain.RoomChange{Keys: append(keys, k)}, nil
	})
	if err != nil {
		return domain.Key{}, err
	}
	return k, nil
}

// Resolve implements domain.KeyStore.
func (s *Keys) Resolve(ctx context.Context, app, secret string) (domain.Key, error) {
	k, found, err := s.rooms.FindKey(ctx, domain.Digest(secret))
	if err != nil {
		return domain.Key{}, err
	}
	if !found || !k.ValidFor(app, time.Now()) {
		return domain.Key{}, &domain.Error{Kind: domain.Denied, Err: errUnknownKey}
	}
	return k, nil
}

// Revoke implements domain.KeyStore.
func (s *Keys) Revoke(ctx context.Context, id string) ([]domain.KeyRef, error) {
	room, err := s.findRoom(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.remove(ctx, room, unknownID, domain.RoomChange{}, func(k domain.Key) bool { return k.ID == id })
}

const unknownID = "no key with this id"

// findRoom returns the room of a key. The error is NotFound if there is none with that ID.
func (s *Keys) findRoom(ctx context.Context, id string) (string, error) {
	room, err := s.rooms.FindRoom(ctx, id)
	if err == nil && room == "" {
		err = domain.Errorf(domain.NotFound, unknownID)
	}
	return room, err
}

// Delete implements domain.KeyStore.
func (s *Keys) Delete(ctx context.Context, app, room string) ([]domain.KeyRef, error) {
	return s.remove(ctx, room, "room not found", domain.RoomChange{EndStreams: true, App: app},
		func(k domain.Key) bool { return app == "" || k.App == app })
}

// remove removes the keys of room that match, by change. If none matches, the error is NotFound with
// the text unknown.
func (s *Keys) remove(ctx context.Context, room, unknown string, change domain.RoomChange,
	match func(domain.Key) bool) ([]domain.KeyRef, error) {
	err := s.update(ctx, room, func(keys []domain.Key) (domain.RoomChange, error) {
		change.Revoked = nil
		for _, k := range keys {
			if match(k) {
				change.Revoked = append(change.Revoked, refs(keys, k)...)
			}
		}
		change.Keys = slices.DeleteFunc(keys, match)
		if change.Revoked == nil {
			return domain.RoomChange{}, domain.Errorf(domain.NotFound, "%s", unknown)
		}
		change.Due = time.Now()
		return change, nil
	})
	if err != nil {
		return nil, err
	}
	return change.Revoked, nil
}

// List implements domain.KeyStore.
func (s *Keys) List(ctx context.Context, room string) ([]domain.Key, error) {
	if room == "" {
		return withoutSecrets(s.rooms.Rooms(ctx, "", 0))
	}
	return withoutSecrets(s.rooms.Room(ctx, room))
}

// Page implements domain.KeyStore.
func (s *Keys) Page(ctx context.Context, after string, limit int) ([]domain.Key, error) {
	return withoutSecrets(s.rooms.Rooms(ctx, after, limit))
}

func withoutSecrets(keys []domain.Key, err error) ([]domain.Key, error) {
	for i := range keys {
		keys[i].Secret = ""
	}
	return keys, err
}

// Dump implements domain.KeyStore.
func (s *Keys) Dump(ctx context.Context) ([]domain.Key, error) { return s.rooms.Rooms(ctx, "", 0) }

// Touch implements domain.KeyStore. Times are stored to the minute.
func (s *Keys) Touch(ctx context.Context, k domain.Key, at time.Time) error {
	stale := func(o domain.Key) bool { return o.Ref() == k.Ref() && at.Sub(o.LastUsed) >= touchResolution }
	if !stale(k) {
		return nil
	}
	return s.update(ctx, k.Room, func(keys []domain.Key) (domain.RoomChange, error) {
		if i := slices.IndexFunc(keys, stale); i >= 0 {
			keys[i].LastUsed = at.UTC().Round(0)
		}
		return domain.RoomChange{Keys: keys}, nil
	})
}

// update changes a room, whose description stays. With every change of its keys, it removes replaced
// keys whose grace period has ended.
func (s *Keys) update(ctx context.Context, room string,
	change func([]domain.Key) (domain.RoomChange, error)) error {
	return s.rooms.Update(ctx, room, func(keys []domain.Key) (domain.RoomChange, error) {
		c, err := change(slices.Clone(keys))
		if err == nil && len(keys) == 0 && len(c.Keys) > 0 {
			err = domain.CheckNewRoom(room)
		}
		if now := time.Now(); err == nil && !slices.Equal(c.Keys, keys) {
			c.Keys = slices.DeleteFunc(c.Keys, func(k domain.Key) bool {
				return k.Label == domain.FormerLabel && !k.Expires.IsZero() && now.After(k.Expires)
			})
			if text := domain.DescriptionOf(keys); text != "" && len(c.Keys) > 0 {
				describe(c.Keys, text)
			}
		}
		return c, err
	})
}

// find returns the index of the key with this app and label, -1 for none.
func find(keys []domain.Key, app, label string) int {
	return slices.IndexFunc(keys, func(k domain.Key) bool { return k.App == app && k.Label == label })
}
