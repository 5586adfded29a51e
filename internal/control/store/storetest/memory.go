package storetest

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"livego/internal/control/keys"
	"livego/internal/domain"
)

// A Memory is a domain.RoomStore in memory.
type Memory struct {
	mu   sync.Mutex
	keys []domain.Key // ordered by room, app and label
	err  error
}

// Keys returns the keys in m.
func (m *Memory) Keys() domain.KeyStore { return keys.New(m) }

// Fail makes every later call return err.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// selected returns the keys that match.
func (m *Memory) selected(ctx context.Context, match func(domain.Key) bool) ([]domain.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.err, unavailable(ctx)); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(m.keys), func(k domain.Key) bool { return !match(k) }), nil
}

func unavailable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &domain.Error{Kind: domain.Unavailable, Err: err}
	}
	return nil
}

// Room implements domain.RoomStore.
func (m *Memory) Room(ctx context.Context, room string) ([]domain.Key, error) {
	return m.selected(ctx, func(k domain.Key) bool { return k.Room == room })
}

// Rooms implements domain.RoomStore.
func (m *Memory) Rooms(ctx context.Context, after string, limit int) ([]domain.Key, error) {
	rooms := map[string]bool{}
	return m.selected(ctx, func(k domain.Key) bool {
		if k.Room > after && (limit == 0 || len(rooms) < limit) {
			rooms[k.Room] = true
		}
		return rooms[k.Room]
	})
}

// FindKey implements domain.RoomStore.
func (m *Memory) FindKey(ctx context.Context, digest [32]byte) (domain.Key, bool, error) {
	keys, err := m.selected(ctx, func(k domain.Key) bool { return k.Digest == digest })
	if err != nil || len(keys) == 0 {
		return domain.Key{}, false, err
	}
	return keys[0], true, nil
}

// FindRoom implements domain.RoomStore.
func (m *Memory) FindRoom(ctx context.Context, id string) (string, error) {
	keys, err := m.selected(ctx, func(k domain.Key) bool { return k.ID == id })
	if err != nil || len(keys) == 0 {
		return "", err
	}
	return keys[0].Room, nil
}

// Update implements domain.RoomStore. change must not use the store.
func (m *Memory) Update(ctx context.Context, room string,
	change func([]domain.Key) (domain.RoomChange, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.err, unavailable(ctx)); err != nil {
		return err
	}
	inRoom := func(k domain.Key) bool { return k.Room == room }
	others := slices.DeleteFunc(slices.Clone(m.keys), inRoom)
	c, err := change(slices.DeleteFunc(slices.Clone(m.keys), func(k domain.Key) bool { return !inRoom(k) }))
	if err != nil {
		return err
	}
	for _, k := range c.Keys {
		if slices.ContainsFunc(others, func(o domain.Key) bool { return o.ID == k.ID || o.Digest == k.Digest }) {
			return domain.ErrKeyInUse
		}
	}
	m.keys = append(others, c.Keys...)
	slices.SortFunc(m.keys, func(a, b domain.Key) int {
		return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(a.App, b.App), cmp.Compare(a.Label, b.Label))
	})
	return nil
}

// NextGeneration implements domain.RoomStore.
func (m *Memory) NextGeneration(k domain.Key) uint64 { return k.Generation + 1 }
