// Package storetest is the conformance suite of domain.Store, and of domain.KeyStore over each store.
// Every backend passes it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"livego/internal/control/keys"
	"livego/internal/domain"
)

// A Store is a store with the keys in it.
type Store struct {
	domain.Store
	domain.KeyStore
}

// WithKeys returns s with its keys.
func WithKeys(s domain.Store) Store { return Store{s, keys.New(s)} }

// A Backend opens the stores that the suite tests.
type Backend struct {
	// Open returns a store over the data at dir: empty the first time, later what an earlier
	// store left there.
	Open func(t *testing.T, dir string) domain.Store
}

// Run runs the suite. Each case has its own new directory.
func Run(t *testing.T, b Backend) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s domain.Store)
	}{
		{"Update", update},
		{"UpdateRefusesKeyInUse", updateRefusesKeyInUse},
		{"FailedUpdateChangesNothing", failedUpdateChangesNothing},
		{"ParallelUpdates", parallelUpdates},
		{"Rooms", roomPages},
		{"Generations", generations},
		{"Ready", ready},
		{"Files", files},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, b.openNew(t)) })
	}
	t.Run("Reopen", func(t *testing.T) { reopen(t, b) })
	t.Run("Counter", func(t *testing.T) { counter(t, b) })
	t.Run("Consume", func(t *testing.T) { consume(t, b) })
	t.Run("Closed", func(t *testing.T) { closed(t, b) })
	RunKeys(t, func(t *testing.T) domain.KeyStore { return keys.New(b.openNew(t)) })
}

// openNew opens an empty store and closes it at the end of the test.
func (b Backend) openNew(t *testing.T) domain.Store {
	s := b.Open(t, t.TempDir())
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// set replaces the keys of room.
func set(t *testing.T, s domain.Store, room string, keys ...domain.Key) {
	t.Helper()
	err := s.Update(t.Context(), room, func([]domain.Key) (domain.RoomChange, error) {
		return domain.RoomChange{Keys: slices.Clone(keys)}, nil
	})
	if err != nil {
		t.Fatalf("Update of %s: %v", room, err)
	}
}

// holds checks the keys of room, and that each is found by its digest and its ID.
func holds(t *testing.T, s domain.Store, room string, want ...domain.Key) {
	t.Helper()
	keys, err := s.Room(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	sameAll(t, room, keys, want...)
	for _, k := range want {
		got, found, err := s.FindKey(t.Context(), k.Digest)
		if err != nil || !found {
			t.Errorf("FindKey of %s: %v, %v", k.ID, found, err)
		}
		same(t, "FindKey", got, k)
		if in, err := s.FindRoom(t.Context(), k.ID); err != nil || in != room {
			t.Errorf("FindRoom of %s: %q, %v, want %s", k.ID, in, err, room)
		}
	}
}

// lacks checks that no index leads to k.
func lacks(t *testing.T, s domain.Store, k domain.Key) {
	t.Helper()
	if got, found, err := s.FindKey(t.Context(), k.Digest); err != nil || found {
		t.Errorf("FindKey of a removed key: %v, %v, %v", got.Ref(), found, err)
	}
	if room, err := s.FindRoom(t.Context(), k.ID); err != nil || room != "" {
		t.Errorf("FindRoom of a removed key: %q, %v", room, err)
	}
}

// update adds, changes, replaces and removes keys of a room.
func update(t *testing.T, s domain.Store) {
	holds(t, s, "movie")
	a := domain.Key{Room: "movie"}.Complete()
	b := domain.Key{Room: "movie", App: "live", Label: "x", Role: domain.Backup, Expires: time.Unix(1e10, 0)}.Complete()
	other := domain.Key{Room: "movie2"}.Complete()
	set(t, s, "movie", b, a) // in any order
	set(t, s, "movie2", other)
	holds(t, s, "movie", a, b)
	set(t, s, "movie", a, b)
	holds(t, s, "movie", a, b)

	a.LastUsed, a.Description = time.Unix(2e9, 0).UTC(), "Caméra 1"
	set(t, s, "movie", a, b)
	holds(t, s, "movie", a, b)

	old := a // a new secret under the same ID
	a.Secret, a.Generation = domain.NewSecret(), 2
	a = a.Complete()
	set(t, s, "movie", a, b)
	holds(t, s, "movie", a, b)
	if _, found, err := s.FindKey(t.Context(), old.Digest); err != nil || found {
		t.Errorf("FindKey of a replaced secret: %v, %v", found, err)
	}
	set(t, s, "movie", b)
	holds(t, s, "movie", b)
	lacks(t, s, a)
	set(t, s, "movie")
	holds(t, s, "movie")
	lacks(t, s, b)
	holds(t, s, "movie2", other)
	for _, id := range []string{"", "nobody", "../x", string(make([]byte, 10_000))} {
		if room, err := s.FindRoom(t.Context(), id); err != nil || room != "" {
			t.Errorf("FindRoom of %.20q: %q, %v", id, room, err)
		}
	}
}

func updateRefusesKeyInUse(t *testing.T, s domain.Store) {
	k := domain.Key{Room: "movie"}.Complete()
	set(t, s, "movie", k)
	for name, taken := range map[string]domain.Key{
		"ID":     domain.Key{Room: "other", ID: k.ID}.Complete(),
		"secret": domain.Key{Room: "other", Secret: k.Secret}.Complete(),
	} {
		err := s.Update(t.Context(), "other", func([]domain.Key) (domain.RoomChange, error) {
			return domain.RoomChange{Keys: []domain.Key{domain.Key{Room: "other", Label: "new"}.Complete(), taken}}, nil
		})
		if !errors.Is(err, domain.ErrKeyInUse) {
			t.Errorf("a key with the same %s: %v", name, err)
		}
	}
	holds(t, s, "other")
	holds(t, s, "movie", k)
}

func failedUpdateChangesNothing(t *testing.T, s domain.Store) {
	k := domain.Key{Room: "movie"}.Complete()
	set(t, s, "movie", k)
	refusal := domain.Errorf(domain.Limit, "no")
	err := s.Update(t.Context(), "movie", func(keys []domain.Key) (domain.RoomChange, error) {
		keys[0].Label = "changed"
		return domain.RoomChange{}, refusal
	})
	if !errors.Is(err, refusal) {
		t.Errorf("Update returned %v", err)
	}
	holds(t, s, "movie", k)
}

// parallelUpdates adds many keys at once to one room: none is lost.
func parallelUpdates(t *testing.T, s domain.Store) {
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 5 {
				k := domain.Key{Room: "movie", Label: fmt.Sprint(worker, "-", i)}.Complete()
				err := s.Update(t.Context(), "movie", func(keys []domain.Key) (domain.RoomChange, error) {
					return domain.RoomChange{Keys: append(keys, k)}, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if keys, err := s.Room(t.Context(), "movie"); err != nil || len(keys) != 40 {
		t.Errorf("%d keys, %v; want 40", len(keys), err)
	}
}

func roomPages(t *testing.T, s domain.Store) {
	var all []domain.Key
	for _, room := range []string{"a", "a-b", "ab", "b"} {
		first, second := domain.Key{Room: room}.Complete(), domain.Key{Room: room, App: "live"}.Complete()
		set(t, s, room, first, second)
		all = append(all, first, second)
	}
	for _, c := range []struct {
		after    string
		limit    int
		from, to int
	}{
		{"", 0, 0, 8}, {"", 2, 0, 4}, {"a-b", 1, 4, 6}, {"a-b", 0, 4, 8}, {"a-", 1, 2, 4}, {"b", 5, 8, 8}, {"b", 0, 8, 8},
	} {
		keys, err := s.Rooms(t.Context(), c.after, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		sameAll(t, fmt.Sprintf("%d rooms after %q", c.limit, c.after), keys, all[c.from:c.to]...)
	}
}

func generations(t *testing.T, s domain.Store) {
	k := domain.Key{Room: "movie", Generation: 7}.Complete()
	set(t, s, "movie", k)
	if n := s.NextGeneration(k); n != 8 {
		t.Errorf("generation %d follows 7", n)
	}
}

// ready checks that a store with its background work becomes ready, and that this work ends.
func ready(t *testing.T, s domain.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx, func([]domain.KeyRef, bool) {}, func(string, string) {})
	}()
	deadline := time.Now().Add(10 * time.Second)
	for s.Ready() != nil && time.Now().Before(deadline) {
		<-time.After(10 * time.Millisecond)
	}
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
}

// files checks the files of a store that several servers share.
func files(t *testing.T, s domain.Store) {
	f, ctx := s.Files(), t.Context()
	if f == nil {
		return // the store belongs to one server
	}
	if err := f.Save(ctx, map[string][]byte{"a": []byte("1"), "b/c": []byte("2")}); err != nil {
		t.Fatal(err)
	}
	if data, at, err := f.Load(ctx, "b/c"); err != nil || string(data) != "2" || time.Since(at).Abs() > time.Minute {
		t.Errorf("Load: %q of %v, %v", data, at, err)
	}
	if err := f.Remove(ctx, "a", "none"); err != nil {
		t.Error(err)
	}
	if _, _, err := f.Load(ctx, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of a removed file: %v", err)
	}
	if names, err := f.Names(ctx); err != nil || !slices.Equal(names, []string{"b/c"}) {
		t.Errorf("Names: %v, %v", names, err)
	}
	for _, c := range []struct {
		owner string
		want  bool
	}{{"one", true}, {"two", false}, {"one", true}} {
		if got, err := f.Lock(ctx, "lock", c.owner, time.Minute); err != nil || got != c.want {
			t.Errorf("Lock for %s: %v, %v", c.owner, got, err)
		}
	}
	if err := errors.Join(f.Unlock(ctx, "lock", "two"), f.Unlock(ctx, "lock", "one")); err != nil {
		t.Error(err)
	}
	if got, err := f.Lock(ctx, "lock", "two", time.Minute); err != nil || !got {
		t.Errorf("Lock of a released lock: %v, %v", got, err)
	}
}

func reopen(t *testing.T, b Backend) {
	dir := t.TempDir()
	s := WithKeys(b.Open(t, dir))
	want := []domain.Key{get(t, s, "", "a"), get(t, s, "live", "a")}
	gone := get(t, s, "", "b")
	if _, err := s.Delete(t.Context(), "", "b"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = WithKeys(b.Open(t, dir))
	t.Cleanup(func() { _ = s.Close() })
	sameAll(t, "after a restart", []domain.Key{get(t, s, "", "a"), get(t, s, "live", "a")}, want...)
	refuses(t, s, "live", gone.Secret)
}

func counter(t *testing.T, b Backend) {
	dir := t.TempDir()
	var last uint64
	for range 3 {
		s := b.Open(t, dir)
		for _, n := range []uint64{1, 100, 1} {
			first, err := s.Reserve(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			if first <= last {
				t.Errorf("Reserve returned %d after %d", first, last)
			}
			last = first + n - 1
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		taken := map[uint64]bool{}
		for range 8 {
			wg.Go(func() {
				first, err := s.Reserve(t.Context(), 5)
				mu.Lock()
				defer mu.Unlock()
				for i := range uint64(5) {
					if err != nil || taken[first+i] || first+i <= last {
						t.Errorf("Reserve returned %d twice, %v", first+i, err)
					}
					taken[first+i] = true
				}
			})
		}
		wg.Wait()
		for n := range taken {
			last = max(last, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func consume(t *testing.T, b Backend) {
	dir := t.TempDir()
	s := b.Open(t, dir)
	ids := func(n int) (id [16]byte) { id[0], id[15] = byte(n), 1; return id }
	try := func(s domain.Store, n int, until time.Time) bool {
		t.Helper()
		first, err := s.Consume(t.Context(), ids(n), until)
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	spent := func(s domain.Store, n int, until time.Time) bool {
		t.Helper()
		known, err := s.IsConsumed(t.Context(), ids(n), until)
		if err != nil {
			t.Fatal(err)
		}
		return known
	}
	soon, later := time.Now().Add(1500*time.Millisecond), time.Now().Add(time.Hour)
	for n := range 3 {
		for range 2 {
			if spent(s, n, later) {
				t.Errorf("Consumed consumes %d", n)
			}
		}
		if !try(s, n, later) {
			t.Errorf("%d is consumed before Consume", n)
		}
		if try(s, n, later) {
			t.Errorf("%d is consumed twice", n)
		}
		if !spent(s, n, later) {
			t.Errorf("%d is not consumed after Consume", n)
		}
	}
	if !try(s, 9, soon) {
		t.Error("9 is consumed before Consume")
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	firsts := 0
	for range 8 {
		wg.Go(func() {
			first, err := s.Consume(t.Context(), ids(20), later)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts++
			}
		})
	}
	wg.Wait()
	if firsts != 1 {
		t.Errorf("%d of 8 callers were first", firsts)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Consume(t.Context(), ids(30), later); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("Consume on a closed store: %v", err)
	}
	if _, err := s.IsConsumed(t.Context(), ids(30), later); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("Consumed on a closed store: %v", err)
	}
	<-time.After(time.Until(soon) + 1100*time.Millisecond)
	s = b.Open(t, dir)
	t.Cleanup(func() { _ = s.Close() })
	if !spent(s, 1, later) || try(s, 1, later) || try(s, 20, later) {
		t.Error("a consumed token is valid again after a restart")
	}
	if !try(s, 40, later) {
		t.Error("a new token is refused after another has expired")
	}
}

func closed(t *testing.T, b Backend) {
	s := WithKeys(b.Open(t, t.TempDir()))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "", "movie"); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("Get after Close: %v, want unavailable", err)
	}
	if _, err := s.Resolve(t.Context(), "live", domain.NewSecret()); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("Resolve after Close: %v, want unavailable, never denied", err)
	}
}
