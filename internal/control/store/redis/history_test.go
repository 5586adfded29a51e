package redis

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"livego/internal/domain"
)

// rounds returns the number of rounds: long in make test-long, else short.
func rounds(short, long int) int {
	if os.Getenv("TEST_LONG") != "" {
		return long
	}
	return short
}

// A historyOp is one operation on a room as its caller saw it.
type historyOp struct {
	verb       string // "get", "reset", "delete"
	secret     string // in the result; "" for a delete
	found      bool   // for a delete: the room had a key
	begin, end int64  // ns
}

func (a historyOp) String() string {
	return fmt.Sprintf("%s %.6s found=%v %d-%d", a.verb, a.secret, a.found, a.begin, a.end)
}

// after returns the room's secret after a, given the secret before; "" means no room. It returns
// false when a cannot have happened.
func (a historyOp) after(before string) (string, bool) {
	switch a.verb {
	case "get":
		return a.secret, before == "" || before == a.secret
	case "reset":
		return a.secret, before != a.secret
	default:
		return "", a.found == (before != "")
	}
}

// linearizable reports whether the operations can be ordered, each at one moment between its begin
// and its end, so that a room that is changed sequentially would have given the same results. At
// most 63 operations.
func linearizable(acts []historyOp) bool {
	type state struct {
		done   uint64
		secret string
	}
	seen := map[state]bool{}
	var search func(s state) bool
	search = func(s state) bool {
		if s.done == 1<<len(acts)-1 {
			return true
		}
		if seen[s] {
			return false
		}
		seen[s] = true
		first := int64(1<<63 - 1) // the earliest end of a pending operation: none that begins later can be next
		for i, a := range acts {
			if s.done&(1<<i) == 0 {
				first = min(first, a.end)
			}
		}
		for i, a := range acts {
			if s.done&(1<<i) != 0 || a.begin > first {
				continue
			}
			// A secret is created once: a get that finds no room does not return an earlier secret.
			if secret, ok := a.after(s.secret); ok && (s.secret != "" || a.verb != "get" || !used(acts, s.done, secret)) {
				if search(state{s.done | 1<<i, secret}) {
					return true
				}
			}
		}
		return false
	}
	return search(state{})
}

// used reports whether an operation that is done returned secret.
func used(acts []historyOp, done uint64, secret string) bool {
	for i, a := range acts {
		if done&(1<<i) != 0 && a.secret == secret {
			return true
		}
	}
	return false
}

// TestLinearizable checks linearizable itself.
func TestLinearizable(t *testing.T) {
	for name, c := range map[string]struct {
		acts []historyOp
		want bool
	}{
		"sequential": {[]historyOp{{"get", "a", false, 1, 2}, {"get", "a", false, 3, 4},
			{"reset", "b", false, 5, 6}, {"get", "b", false, 7, 8}}, true},
		"concurrent": {[]historyOp{{"get", "a", false, 1, 9}, {"reset", "a2", false, 1, 9},
			{"delete", "", true, 1, 9}, {"get", "a2", false, 1, 9}}, true},
		"two keys of one room": {[]historyOp{{"get", "a", false, 1, 2}, {"get", "b", false, 3, 4}}, false},
		"old key after reset": {[]historyOp{{"get", "a", false, 1, 2}, {"reset", "b", false, 3, 4},
			{"get", "a", false, 5, 6}}, false},
		"lost reset": {[]historyOp{{"reset", "a", false, 1, 2}, {"reset", "b", false, 3, 4},
			{"get", "a", false, 5, 6}}, false},
		"delete of nothing": {[]historyOp{{"get", "a", false, 1, 2}, {"delete", "", false, 3, 4}}, false},
		"deleted twice": {[]historyOp{{"get", "a", false, 1, 2}, {"delete", "", true, 3, 6},
			{"delete", "", true, 4, 5}}, false},
		"key after delete": {[]historyOp{{"get", "a", false, 1, 2}, {"delete", "", true, 3, 4},
			{"get", "a", false, 5, 6}}, false},
	} {
		if got := linearizable(c.acts); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestConcurrentChangesAreLinearizable has callers of two servers get, reset and delete one room at
// once, and checks that the results are linearizable. The Redis syncs each write.
func TestConcurrentChangesAreLinearizable(t *testing.T) {
	t.Run("Redis", func(t *testing.T) { checkHistories(t, startRedis(t)) })
	t.Run("Valkey", func(t *testing.T) { checkHistories(t, startValkey(t)) })
}

func checkHistories(t *testing.T, r *server) {
	t.Helper()
	servers := [2]keyStore{open(t, r.addr), open(t, r.addr)}
	seed := rand.New(rand.NewPCG(1, 2))
	overlaps := 0
	for round := range rounds(20, 200) {
		acts := recordHistory(t, servers, fmt.Sprint("room", round), seed)
		for i, a := range acts {
			overlaps += len(slices.Collect(func(yield func(int) bool) {
				for j := range acts[:i] {
					if acts[j].begin < a.end && a.begin < acts[j].end && !yield(j) {
						return
					}
				}
			}))
		}
		if !linearizable(acts) {
			slices.SortFunc(acts, func(a, b historyOp) int { return int(a.begin - b.begin) })
			t.Fatalf("round %d is not linearizable:\n%v", round, acts)
		}
	}
	if overlaps < 100 {
		t.Errorf("only %d operations overlapped, too few for a test", overlaps)
	}
}

// recordHistory runs six callers with eight operations each.
func recordHistory(t *testing.T, servers [2]keyStore, room string, seed *rand.Rand) []historyOp {
	var mu sync.Mutex
	var acts []historyOp
	var wg sync.WaitGroup
	epoch := time.Now()
	for caller := range 6 {
		rng := rand.New(rand.NewPCG(seed.Uint64(), 0))
		wg.Go(func() {
			for range 8 {
				a, err := perform(t, servers[caller%2], room, rng.IntN(3), epoch)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acts = append(acts, a)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return acts
}

func perform(t *testing.T, s keyStore, room string, what int, epoch time.Time) (historyOp, error) {
	a := historyOp{begin: int64(time.Since(epoch))}
	var k domain.Key
	var err error
	switch what {
	case 0:
		a.verb = "get"
		k, err = s.Get(t.Context(), "", room)
	case 1:
		a.verb = "reset"
		k, _, err = s.Rotate(t.Context(), "", room, domain.Rotation{})
	case 2:
		a.verb, a.found = "delete", true
		if _, err = s.Delete(t.Context(), "", room); domain.KindOf(err) == domain.NotFound {
			a.found, err = false, nil
		}
	}
	a.secret, a.end = k.Secret, int64(time.Since(epoch))
	return a, err
}
