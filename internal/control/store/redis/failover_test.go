package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
)

// TestFailover kills the master while its replica is behind: a key that was revoked meanwhile stays
// revoked, and the store keeps working.
func TestFailover(t *testing.T) {
	t.Parallel()
	addr, master, replica := startSentinel(t)
	a, b := startNode(t, addr), startNode(t, addr)
	a.awaitReady(t, 5*time.Second)
	old, other := mustGet(t, a.keyStore, "movie"), mustGet(t, a.keyStore, "other")
	eventually(t, 5*time.Second, "the replica has both", func() error {
		if n := replica.do("EXISTS", roomName+"movie", roomName+"other"); n != int64(2) {
			return fmt.Errorf("it has %v", n)
		}
		return nil
	})
	replica.pause()
	if _, _, err := a.Rotate(t.Context(), "", "movie", domain.Rotation{}); err != nil {
		t.Fatal(err)
	}
	b.awaitRevoked(t, old.Ref(), time.Second)
	master.kill()
	replica.resume()
	eventually(t, 20*time.Second, "the replica takes over", func() error {
		_, err := b.reset(t, "probe")
		return err
	})
	if role := fmt.Sprint(replica.do("ROLE")); !strings.Contains(role, "master") {
		t.Fatalf("the replica is %s", role)
	}
	for name, n := range map[string]*node{"a": a, "b": b, "a server that starts": startNode(t, addr)} {
		n.awaitReady(t, 5*time.Second)
		eventually(t, 5*time.Second, "revoked again for "+name, func() error {
			if _, err := n.Resolve(t.Context(), "live", old.Secret); domain.KindOf(err) != domain.Denied {
				return fmt.Errorf("resolves: %v", err)
			}
			return nil
		})
		if k, err := n.Resolve(t.Context(), "live", other.Secret); err != nil || k.Ref() != other.Ref() {
			t.Errorf("%s: another key is %v, %v", name, k.Ref(), err)
		}
	}
}

// reset gives a room a new key.
func (n *node) reset(t *testing.T, room string) (domain.Key, error) {
	k, _, err := n.Rotate(t.Context(), "", room, domain.Rotation{})
	return k, err
}

// TestClusterFailover kills the node of a Cluster that has livego's slot.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	addr, nodes := startCluster(t)
	n := startNode(t, addr)
	n.awaitReady(t, 5*time.Second)
	k := mustGet(t, n.keyStore, "movie")
	var owner *server
	for _, node := range nodes {
		if !strings.Contains(fmt.Sprint(node.do("ROLE")), "slave") && fmt.Sprint(node.do("DBSIZE")) != "0" {
			owner = node
		}
	}
	if owner == nil {
		t.Fatal("no node has data")
	}
	eventually(t, 10*time.Second, "a replica has it", func() error {
		if text := fmt.Sprint(owner.do("INFO", "replication")); !strings.Contains(text, "state=online") ||
			!strings.Contains(text, "lag=0") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	owner.kill()
	eventually(t, 30*time.Second, "a replica takes over", func() error {
		_, err := n.reset(t, "probe")
		if err != nil {
			return fmt.Errorf("%w: %v", err, errors.Unwrap(errors.Unwrap(err)))
		}
		return nil
	})
	if got, err := n.Resolve(t.Context(), "live", k.Secret); err != nil || got.Ref() != k.Ref() {
		t.Errorf("Resolve after the failover: %v, %v", got.Ref(), err)
	}
}

// TestKilledRedisKeepsAcknowledgedKeys kills Redis during changes, and checks that every
// acknowledged change is left and none is partial.
func TestKilledRedisKeepsAcknowledgedKeys(t *testing.T) {
	r := startRedis(t)
	s := startNode(t, r.addr)
	for round := range rounds(3, 30) {
		acked := make(chan domain.Key, 1000)
		stop := make(chan struct{})
		go func() {
			defer close(acked)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k, err := s.Get(t.Context(), "", fmt.Sprintf("r%d-%d", round, i))
				if err == nil {
					k, _, err = s.Rotate(t.Context(), "", k.Room, domain.Rotation{})
				}
				if err != nil {
					return
				}
				acked <- k
			}
		}()
		var keys []domain.Key
		for k := range acked {
			if keys = append(keys, k); len(keys) == 20 {
				r.kill()
			}
		}
		close(stop)
		r.start()
		s.awaitReady(t, 5*time.Second)
		for _, k := range keys {
			if got, err := s.Resolve(t.Context(), "live", k.Secret); err != nil || got.Ref() != k.Ref() {
				t.Fatalf("round %d: the key of %s was acknowledged and is lost: %v", round, k.Room, err)
			}
		}
		checkIndexes(t, s.keyStore, r)
	}
}

// checkIndexes checks that each key in r has its two index entries, and that no other index entry
// exists.
func checkIndexes(t *testing.T, s keyStore, r *server) {
	t.Helper()
	keys, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		for _, name := range indexNames(k) {
			if room, err := s.lookupIndex(t.Context(), name); err != nil || room != k.Room {
				t.Errorf("%s refers to %q, %v; want %s", name, room, err, k.Room)
			}
		}
	}
	n := 0
	for _, k := range r.do("KEYS", prefix+"*").([]any) {
		if name := k.(string); strings.HasPrefix(name, keyName) || strings.HasPrefix(name, idName) {
			n++
		}
	}
	if n != 2*len(keys) {
		t.Errorf("%d index entries for %d keys", n, len(keys))
	}
}

// TestClosedStoreReportsClosed checks that the errors of a closed store say so.
func TestClosedStoreReportsClosed(t *testing.T) {
	r := startRedis(t)
	s := open(t, r.addr)
	mustGet(t, s, "movie")
	s.Close()
	_, err := s.Get(t.Context(), "", "movie")
	if domain.KindOf(err) != domain.Unavailable || !strings.Contains(errors.Unwrap(errors.Unwrap(err)).Error(), "closed") {
		t.Error(err)
	}
}
