package bolt

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"livego/internal/control/store/storetest"
	"livego/internal/domain"
)

// childMain creates, resets and deletes keys until it is killed, and prints each change once it is
// acknowledged.
func childMain(dir string) {
	store, err := Open(dir)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	s := storetest.WithKeys(store)
	ctx := context.Background()
	for i := uint64(0); ; i++ {
		first, err := s.Reserve(ctx, 1)
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		room := fmt.Sprint("room", first)
		k, err := s.Get(ctx, "", room)
		fmt.Println("made", room, k.Secret)
		if err == nil && i%3 == 1 {
			fmt.Println("resets", room)
			k, _, err = s.Rotate(ctx, "", room, domain.Rotation{})
			fmt.Println("made", room, k.Secret)
		}
		if err == nil && i%5 == 4 {
			fmt.Println("deletes", room)
			_, err = s.Delete(ctx, "", room)
			fmt.Println("deleted", room)
		}
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
}

// TestKilledProcessKeepsAcknowledgedKeys kills a process that creates keys, and checks that every
// acknowledged key is left and no change is partial.
func TestKilledProcessKeepsAcknowledgedKeys(t *testing.T) {
	rounds := 20
	if os.Getenv("TEST_LONG") != "" {
		rounds = 200
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	keys := map[string]string{} // acknowledged: room -> secret
	unsure := map[string]bool{} // rooms with a change that was started and not acknowledged
	gone := map[string]bool{}   // acknowledged as deleted
	for round := range rounds {
		lines, err := killAfter(t, dir, 1+rng.IntN(40))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			switch l.verb {
			case "made":
				keys[l.room] = l.secret
				delete(unsure, l.room)
			case "resets", "deletes":
				unsure[l.room] = true
			case "deleted":
				delete(keys, l.room)
				delete(unsure, l.room)
				gone[l.room] = true
			default:
				t.Fatalf("round %d: the child printed %v", round, l)
			}
		}
		s, err := Open(dir) // verifies that records and indexes agree
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		checkAcknowledged(t, storetest.WithKeys(s), keys, unsure, gone)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) < rounds {
		t.Errorf("only %d keys in %d rounds, too few for a test", len(keys), rounds)
	}
}

func checkAcknowledged(t *testing.T, s domain.KeyStore, keys map[string]string, unsure, gone map[string]bool) {
	t.Helper()
	for room, secret := range keys {
		k, err := s.Resolve(t.Context(), "live", secret)
		if unsure[room] && domain.KindOf(err) == domain.Denied {
			continue
		}
		if err != nil || k.Room != room {
			t.Fatalf("the key of %s was acknowledged and is lost: %v", room, err)
		}
	}
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if gone[k.Room] {
			t.Fatalf("%s was deleted and exists again", k.Room)
		}
	}
}

type ack struct{ verb, room, secret string }

// killAfter starts a child, kills it once it has printed n lines, at an arbitrary point, and
// returns all that it printed.
func killAfter(t *testing.T, dir string, n int) ([]ack, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var acks []ack
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var a ack
		fmt.Sscan(lines.Text(), &a.verb, &a.room, &a.secret)
		acks = append(acks, a)
		if len(acks) == n {
			cmd.Process.Kill()
		}
	}
	cmd.Wait() // its error is that it was killed
	return acks, nil
}
