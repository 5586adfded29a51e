// Package measured counts and times the calls of a store. It stores nothing itself.
package measured

import (
	"context"
	"sync/atomic"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/histogram"
)

// An operation is a method of domain.Store that is measured.
type operation int

const (
	opRoom operation = iota
	opRooms
	opFindKey
	opFindRoom
	opUpdate
	opReserve
	opConsume
	opIsConsumed
	operations
)

// Names of the operations in Statistics.
var names = [operations]string{
	"room", "rooms", "find_key", "find_room", "update", "reserve", "consume", "is_consumed",
}

// bounds are of the durations: a file answers in microseconds and syncs in milliseconds, a database
// has time-outs of seconds.
var bounds = []time.Duration{
	100 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second,
}

// A Store is a domain.Store that counts and times calls. Methods that it does not define are those of
// the store itself.
type Store struct {
	domain.Store
	durations [operations]*histogram.Histogram
	failures  [operations]atomic.Uint64
}

// New returns s, measured.
func New(s domain.Store) *Store {
	m := &Store{Store: s}
	for op := range m.durations {
		m.durations[op] = histogram.New(bounds)
	}
	return m
}

// Statistics of one operation.
type Statistics struct {
	Duration histogram.Snapshot // of all calls
	Failures uint64             // calls that the store could not serve: Unavailable, Limit and Internal
}

// Statistics returns what was counted, by operation: "room", "find_key", "update" and so on.
func (m *Store) Statistics() map[string]Statistics {
	all := make(map[string]Statistics, operations)
	for op, name := range names {
		all[name] = Statistics{m.durations[op].Snapshot(), m.failures[op].Load()}
	}
	return all
}

// observe counts a call that started at a time.
func (m *Store) observe(op operation, start time.Time, err error) {
	m.durations[op].Observe(time.Since(start))
	if err == nil {
		return
	}
	switch domain.KindOf(err) {
	case domain.Unavailable, domain.Limit, domain.Internal:
		m.failures[op].Add(1)
	}
}

// Room implements domain.RoomStore.
func (m *Store) Room(ctx context.Context, room string) ([]domain.Key, error) {
	start := time.Now()
	keys, err := m.Store.Room(ctx, room)
	m.observe(opRoom, start, err)
	return keys, err
}

// Rooms implements domain.RoomStore.
func (m *Store) Rooms(ctx context.Context, after string, limit int) ([]domain.Key, error) {
	start := time.Now()
	keys, err := m.Store.Rooms(ctx, after, limit)
	m.observe(opRooms, start, err)
	return keys, err
}

// FindKey implements domain.RoomStore.
func (m *Store) FindKey(ctx context.Context, digest [32]byte) (domain.Key, bool, error) {
	start := time.Now()
	key, ok, err := m.Store.FindKey(ctx, digest)
	m.observe(opFindKey, start, err)
	return key, ok, err
}

// FindRoom implements domain.RoomStore.
func (m *Store) FindRoom(ctx context.Context, id string) (string, error) {
	start := time.Now()
	room, err := m.Store.FindRoom(ctx, id)
	m.observe(opFindRoom, start, err)
	return room, err
}

// Update implements domain.RoomStore.
func (m *Store) Update(ctx context.Context, room string, change func([]domain.Key) (domain.RoomChange, error)) error {
	start := time.Now()
	err := m.Store.Update(ctx, room, change)
	m.observe(opUpdate, start, err)
	return err
}

// Reserve implements domain.Counter.
func (m *Store) Reserve(ctx context.Context, n uint64) (uint64, error) {
	start := time.Now()
	first, err := m.Store.Reserve(ctx, n)
	m.observe(opReserve, start, err)
	return first, err
}

// Consume implements domain.OneTimeTokenStore.
func (m *Store) Consume(ctx context.Context, id [16]byte, until time.Time) (bool, error) {
	start := time.Now()
	first, err := m.Store.Consume(ctx, id, until)
	m.observe(opConsume, start, err)
	return first, err
}

// IsConsumed implements domain.OneTimeTokenStore.
func (m *Store) IsConsumed(ctx context.Context, id [16]byte, until time.Time) (bool, error) {
	start := time.Now()
	used, err := m.Store.IsConsumed(ctx, id, until)
	m.observe(opIsConsumed, start, err)
	return used, err
}
