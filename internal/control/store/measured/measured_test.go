package measured

import (
	"context"
	"errors"
	"testing"
	"time"

	"livego/internal/domain"
)

// fakeStore fails every call with err, which may be nil.
type fakeStore struct {
	domain.Store
	err error
}

func (s *fakeStore) Room(context.Context, string) ([]domain.Key, error)         { return nil, s.err }
func (s *fakeStore) Rooms(context.Context, string, int) ([]domain.Key, error)   { return nil, s.err }
func (s *fakeStore) FindRoom(context.Context, string) (string, error)           { return "", s.err }
func (s *fakeStore) Reserve(context.Context, uint64) (uint64, error)            { return 7, s.err }
func (s *fakeStore) Consume(context.Context, [16]byte, time.Time) (bool, error) { return true, s.err }
func (s *fakeStore) IsConsumed(context.Context, [16]byte, time.Time) (bool, error) {
	return true, s.err
}

func (s *fakeStore) FindKey(context.Context, [32]byte) (domain.Key, bool, error) {
	return domain.Key{}, true, s.err
}

func (s *fakeStore) Update(_ context.Context, _ string, change func([]domain.Key) (domain.RoomChange, error)) error {
	if _, err := change(nil); err != nil {
		return err
	}
	return s.err
}

// TestStatistics makes each call with results of several kinds. Only those that the store cannot serve
// are failures.
func TestStatistics(t *testing.T) {
	fake := &fakeStore{}
	s := New(fake)
	ctx := t.Context()
	calls := map[string]func() error{
		"room":      func() error { _, err := s.Room(ctx, "movie"); return err },
		"rooms":     func() error { _, err := s.Rooms(ctx, "", 1); return err },
		"find_key":  func() error { _, _, err := s.FindKey(ctx, [32]byte{}); return err },
		"find_room": func() error { _, err := s.FindRoom(ctx, "id"); return err },
		"update": func() error {
			return s.Update(ctx, "movie", func([]domain.Key) (domain.RoomChange, error) { return domain.RoomChange{}, nil })
		},
		"reserve":     func() error { _, err := s.Reserve(ctx, 1); return err },
		"consume":     func() error { _, err := s.Consume(ctx, [16]byte{}, time.Time{}); return err },
		"is_consumed": func() error { _, err := s.IsConsumed(ctx, [16]byte{}, time.Time{}); return err },
	}
	results := []error{nil, domain.Errorf(domain.Unavailable, "down"), errors.New("disk"), domain.ErrKeyInUse}
	for _, fake.err = range results {
		for op, call := range calls {
			if err := call(); !errors.Is(err, fake.err) {
				t.Errorf("%s: %v, want %v", op, err, fake.err)
			}
		}
	}
	all := s.Statistics()
	if len(all) != len(calls) {
		t.Errorf("statistics of %d operations, want %d", len(all), len(calls))
	}
	for op := range calls {
		if n := all[op].Duration.Count(); n != uint64(len(results)) || all[op].Failures != 2 {
			t.Errorf("%s: %d calls and %d failures, want %d and 2", op, n, all[op].Failures, len(results))
		}
	}
}
