package redis

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"livego/internal/control/store/storetest"
	"livego/internal/domain"
)

// The library checks once a second whether it has been closed while it waits for a server, and ends
// then.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// runConformance runs the suite on a Redis that it flushes for each directory.
func runConformance(t *testing.T, addr string, nodes ...*server) {
	t.Helper()
	dir := ""
	storetest.Run(t, storetest.Backend{Open: func(t *testing.T, p string) domain.Store {
		if p != dir {
			dir = p
			for _, n := range nodes {
				n.do("FLUSHALL")
			}
		}
		return open(t, addr).Store
	}})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	runConformance(t, r.addr, r)
}

// TestConformanceValkey runs the same suite on Valkey.
func TestConformanceValkey(t *testing.T) {
	t.Parallel()
	r := startValkey(t)
	runConformance(t, r.addr, r)
}

func TestConformanceWithPassword(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	r.do("ACL", "SETUSER", "liv:ego", "on", ">p@ss/word?", "~{livego}:*", "+@all", "-@dangerous")
	runConformance(t, "redis://liv%3Aego:p%40ss%2Fword%3F@"+r.addr+"/3", r)
}

func TestConformanceSentinel(t *testing.T) {
	t.Parallel()
	addr, master, _ := startSentinel(t)
	runConformance(t, addr, master)
}

func TestConformanceCluster(t *testing.T) {
	t.Parallel()
	addr, nodes := startCluster(t)
	var masters []*server
	for _, n := range nodes {
		if strings.Contains(fmt.Sprint(n.do("ROLE")), "master") {
			masters = append(masters, n)
		}
	}
	runConformance(t, addr, masters...)
}

// within runs op and checks that it takes no longer than any operation may, on a busy machine.
func within(t *testing.T, what string, op func() error) error {
	t.Helper()
	start := time.Now()
	err := op()
	if took := time.Since(start); took > 2*opTimeout {
		t.Errorf("%s took %v", what, took)
	}
	return err
}

// operations are all operations of a store, on a room that has the key k.
func operations(s keyStore, k domain.Key) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"get":     func(ctx context.Context) error { _, err := s.Get(ctx, "", k.Room); return err },
		"rotate":  func(ctx context.Context) error { _, _, err := s.Rotate(ctx, "", k.Room, domain.Rotation{}); return err },
		"resolve": func(ctx context.Context) error { _, err := s.Resolve(ctx, "live", k.Secret); return err },
		"delete":  func(ctx context.Context) error { _, err := s.Delete(ctx, "", k.Room); return err },
		"list":    func(ctx context.Context) error { _, err := s.List(ctx, ""); return err },
		"touch":   func(ctx context.Context) error { return s.Touch(ctx, k, time.Now().Add(time.Hour)) },
		"add": func(ctx context.Context) error {
			_, err := s.Add(ctx, domain.Key{Room: k.Room, Label: "x"})
			return err
		},
		"revoke":  func(ctx context.Context) error { _, err := s.Revoke(ctx, k.ID); return err },
		"reserve": func(ctx context.Context) error { _, err := s.Reserve(ctx, 1); return err },
		"spend": func(ctx context.Context) error {
			_, err := s.Consume(ctx, [16]byte{1}, time.Now().Add(time.Hour))
			return err
		},
	}
}

// TestRedisOutage makes Redis unavailable in several ways: no key is accepted, no operation blocks
// for long, and everything works soon after its return.
func TestRedisOutage(t *testing.T) {
	for name, c := range map[string]struct {
		away, back func(*server)
		fresh      bool // also for a server that starts during the outage
	}{
		"killed": {(*server).kill, (*server).start, true},
		"paused": {(*server).pause, (*server).resume, true},
		"new password": {func(r *server) { r.do("CONFIG", "SET", "requirepass", "other") },
			func(r *server) { r.kill(); r.start() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			n := startNode(t, r.addr)
			n.awaitReady(t, 2*time.Second)
			k := mustGet(t, n.keyStore, "movie")
			c.away(r)
			if name == "new password" {
				// Open connections stay authenticated; new ones are refused.
				n = startNode(t, r.addr)
			}
			fresh := startNode(t, r.addr) // a server that starts meanwhile
			for op, f := range operations(n.keyStore, k) {
				err := within(t, op, func() error { return f(t.Context()) })
				if domain.KindOf(err) != domain.Unavailable || domain.Reason(err) != "key store unavailable" {
					t.Errorf("%s: %v (%v)", op, err, domain.KindOf(err))
				}
			}
			if n.Ready() == nil || fresh.Ready() == nil {
				t.Error("ready without Redis")
			}
			for range 3 { // once Redis is known to be unavailable, no operation waits
				start := time.Now()
				_, err := n.Resolve(t.Context(), "live", k.Secret)
				if took := time.Since(start); domain.KindOf(err) != domain.Unavailable || took > time.Second && name != "paused" {
					t.Errorf("Resolve: %v after %v", err, took)
				}
			}
			c.back(r)
			n.awaitReady(t, 5*time.Second)
			fresh.awaitReady(t, 5*time.Second)
			for _, s := range []*node{n, fresh} {
				if got, err := s.Resolve(t.Context(), "live", k.Secret); err != nil || got.Ref() != k.Ref() {
					t.Errorf("Resolve after the return: %v, %v", got.Ref(), err)
				}
			}
		})
	}
}

// TestCachedKeysDuringOutage checks that recently valid keys resolve while Redis is unavailable, if
// configured, and revoked ones do not.
func TestCachedKeysDuringOutage(t *testing.T) {
	r := startRedis(t)
	n := startNode(t, r.addr, func(o *Options) { o.Cache = time.Minute })
	n.awaitReady(t, 2*time.Second)
	used, unused := mustGet(t, n.keyStore, "used"), mustGet(t, n.keyStore, "unused")
	revoked := mustGet(t, n.keyStore, "revoked")
	for _, k := range []domain.Key{used, revoked} {
		if _, err := n.Resolve(t.Context(), "live", k.Secret); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := n.Rotate(t.Context(), "", "revoked", domain.Rotation{}); err != nil {
		t.Fatal(err)
	}
	r.kill()
	if k, err := n.Resolve(t.Context(), "live", used.Secret); err != nil || k.Ref() != used.Ref() {
		t.Errorf("a recently used key: %v, %v", k.Ref(), err)
	}
	if _, err := n.Resolve(t.Context(), "live", unused.Secret); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("a key that was not used: %v", err)
	}
	if _, err := n.Resolve(t.Context(), "live", revoked.Secret); domain.KindOf(err) != domain.Denied {
		t.Errorf("a revoked key: %v", err)
	}
	if _, ok := n.cache.get(used.Digest, time.Now().Add(time.Minute)); ok {
		t.Error("a minute later it is still valid")
	}
}

// TestReplicaRefusesWrites turns Redis into a replica: keys can be read, and no write is reported
// as done.
func TestReplicaRefusesWrites(t *testing.T) {
	r, other := startRedis(t), startRedis(t)
	n := startNode(t, r.addr)
	k := mustGet(t, n.keyStore, "movie")
	r.do("CONFIG", "SET", "replica-serve-stale-data", "yes")
	other.pause() // else it would replicate its own, empty state
	host, port, _ := strings.Cut(other.addr, ":")
	r.do("REPLICAOF", host, port)
	for op, f := range operations(n.keyStore, k) {
		if op == "get" || op == "resolve" || op == "list" {
			continue
		}
		if err := within(t, op, func() error { return f(t.Context()) }); domain.KindOf(err) != domain.Unavailable ||
			!strings.Contains(errors.Unwrap(errors.Unwrap(err)).Error(), "READONLY") {
			t.Errorf("%s: %v, want unavailable because of READONLY", op, err)
		}
	}
	if got, err := n.Resolve(t.Context(), "live", k.Secret); err != nil || got.Ref() != k.Ref() {
		t.Errorf("Resolve: %v, %v", got.Ref(), err)
	}
}

// TestForeignValuesResolveNoKey stores foreign values under livego's names, and livego's values
// under other names: they resolve no key.
func TestForeignValuesResolveNoKey(t *testing.T) {
	r := startRedis(t)
	s := open(t, r.addr)
	good := mustGet(t, s, "good")
	pointing := func(name, room string) string { return encodeValue(name, indexValue{room}) }
	secret := domain.NewSecret()
	d := domain.Digest(secret)
	key := keyName + hex.EncodeToString(d[:])
	forged := domain.Key{Room: "forged", Secret: secret}.Complete()
	roomValue := encodeRoom("forged", []domain.Key{forged})
	for name, put := range map[string]func(){
		"pair of the legacy server":         func() { r.do("SET", "forged", secret); r.do("SET", secret, "forged") },
		"plain text index entry":            func() { r.do("SET", key, "forged") },
		"index of another name":             func() { r.do("SET", key, pointing(keyName+"0", "forged")) },
		"index that is a list":              func() { r.do("RPUSH", key, "forged") },
		"index of 10 MB":                    func() { r.do("SET", key, strings.Repeat("x", 10<<20)) },
		"binary index":                      func() { r.do("SET", key, "\x00\xff\r\n") },
		"index entry of a missing room":     func() { r.do("SET", key, pointing(key, "forged")) },
		"index entry of another key's room": func() { r.do("SET", key, pointing(key, "good")) },
		"index entry of an invalid name":    func() { r.do("SET", key, pointing(key, "../x")) },
		"room of another name": func() {
			r.do("SET", key, pointing(key, "forged"))
			r.do("SET", roomName+"forged", encodeRoom("other", []domain.Key{forged}))
		},
		"room with a flipped byte": func() {
			r.do("SET", key, pointing(key, "forged"))
			r.do("SET", roomName+"forged", strings.Replace(roomValue, `"generation":1`, `"generation":2`, 1))
		},
		"room that is a hash": func() {
			r.do("SET", key, pointing(key, "forged"))
			r.do("HSET", roomName+"forged", "a",
				"b")
		},
		"room of 10 MB": func() {
			r.do("SET", key, pointing(key, "forged"))
			r.do("SET", roomName+"forged", strings.Repeat("x", 10<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.do("DEL", key, roomName+"forged", "forged", secret)
			put()
			if k, err := s.Resolve(t.Context(), "live", secret); domain.KindOf(err) != domain.Denied {
				t.Errorf("Resolve: %v, %v, want denied", k.Ref(), err)
			}
		})
	}
	r.do("DEL", roomName+"forged")
	r.do("HSET", roomName+"forged", "a", "b")
	if _, err := s.Get(t.Context(), "", "forged"); domain.KindOf(err) != domain.Internal || !errors.Is(err, errForeign) {
		t.Errorf("Get of a room of a wrong type: %v", err)
	}
	r.do("DEL", revokedName)
	r.do("SET", revokedName, "x")
	if _, _, err := s.Rotate(t.Context(), "", "good", domain.Rotation{}); domain.KindOf(err) != domain.Internal {
		t.Errorf("Rotate with a revocation list of a wrong type: %v", err)
	}
	if k := mustGet(t, s, "good"); k.Ref() != good.Ref() {
		t.Error("a failed change was partially applied")
	}
	r.do("ZADD", roomsName, "0", "forged")
	if keys, err := s.List(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("List with foreign values: %v, %v", keys, err)
	}
}

// TestUnreadableRevocationsRefuseEveryone makes the list of revocations unreadable: a server that
// cannot read it accepts no key.
func TestUnreadableRevocationsRefuseEveryone(t *testing.T) {
	r := startRedis(t)
	n := startNode(t, r.addr)
	n.awaitReady(t, 2*time.Second)
	k := mustGet(t, n.keyStore, "movie")
	r.do("SET", revokedName, "x")
	eventually(t, 2*time.Second, "not ready", func() error {
		if n.Ready() == nil {
			return errors.New("store is ready")
		}
		return nil
	})
	if _, err := n.Resolve(t.Context(), "live", k.Secret); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("Resolve: %v", err)
	}
	r.do("DEL", revokedName)
	n.awaitReady(t, 5*time.Second)
	if _, err := n.Resolve(t.Context(), "live", k.Secret); err != nil {
		t.Errorf("Resolve: %v", err)
	}
}

// TestRevocationReachesOtherServers revokes on one server and checks another.
func TestRevocationReachesOtherServers(t *testing.T) {
	r := startRedis(t)
	a, b := startNode(t, r.addr), startNode(t, r.addr)
	k := mustGet(t, a.keyStore, "movie")
	if _, err := b.Resolve(t.Context(), "live", k.Secret); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Rotate(t.Context(), "", "movie", domain.Rotation{}); err != nil {
		t.Fatal(err)
	}
	b.awaitRevoked(t, k.Ref(), time.Second)
	if b.ended.Load() != 0 {
		t.Error("a reset ends the stream")
	}
	k = mustGet(t, b.keyStore, "movie")
	if _, err := b.Delete(t.Context(), "", "movie"); err != nil {
		t.Fatal(err)
	}
	a.awaitRevoked(t, k.Ref(), time.Second)
	if a.ended.Load() != 1 {
		t.Error("a delete does not end the stream")
	}
	a.awaitDeleted(t, "/movie")
	if k, err := a.Get(t.Context(), "live", "radio"); err != nil || k.App != "live" {
		t.Fatalf("%+v, %v", k, err)
	}
	if _, err := b.Delete(t.Context(), "live", "radio"); err != nil {
		t.Fatal(err)
	}
	a.awaitDeleted(t, "live/radio")
	if len(a.deleted)+len(b.deleted) != 0 {
		t.Errorf("further deleted rooms: %d on one server, %d on the other", len(a.deleted), len(b.deleted))
	}

	k = mustGet(t, a.keyStore, "movie")
	start := time.Now()
	if _, _, err := a.Rotate(t.Context(), "", "movie", domain.Rotation{Grace: 1500 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	b.awaitRevoked(t, k.Ref(), 4*time.Second)
	if took := time.Since(start); took < 1400*time.Millisecond {
		t.Errorf("revoked after %v of a grace period of 1.5 s", took)
	}
}

// TestRevokedKeyStaysRevokedAfterRestore revokes a key and restores an older state of Redis, as
// from a backup or a lagging replica.
func TestRevokedKeyStaysRevokedAfterRestore(t *testing.T) {
	r := startRedis(t)
	a, b := startNode(t, r.addr), startNode(t, r.addr)
	old := mustGet(t, a.keyStore, "movie")
	before := snapshot(r)
	next, _, err := a.Rotate(t.Context(), "", "movie", domain.Rotation{})
	if err != nil {
		t.Fatal(err)
	}
	b.awaitRevoked(t, old.Ref(), time.Second)
	restore(r, before)
	for _, n := range []*node{a, b} {
		if _, err := n.Resolve(t.Context(), "live", old.Secret); domain.KindOf(err) != domain.Denied {
			t.Errorf("the revoked key is valid again: %v", err)
		}
		if keys, err := n.List(t.Context(), "movie"); err != nil || len(keys) != 0 {
			t.Errorf("the revoked key is listed: %v, %v", keys, err)
		}
	}
	// Soon a server that has read no revocation refuses it too.
	fresh := open(t, r.addr)
	eventually(t, 5*time.Second, "revocation is applied again", func() error {
		if _, err := fresh.Resolve(t.Context(), "live", old.Secret); domain.KindOf(err) != domain.Denied {
			return fmt.Errorf("the revoked key resolves: %w", err)
		}
		return nil
	})
	if k := mustGet(t, fresh, "movie"); k.Secret == old.Secret || k.Ref() == next.Ref() {
		t.Error("the room has an earlier key again")
	}
}

// TestKeyReferenceIsNeverReused loses a reset and resets again: the new key must not have the
// reference of the lost one.
func TestKeyReferenceIsNeverReused(t *testing.T) {
	r := startRedis(t)
	a := open(t, r.addr)
	mustGet(t, a, "movie")
	before := snapshot(r)
	refs := map[domain.KeyRef]bool{}
	for range 3 {
		k, _, err := a.Rotate(t.Context(), "", "movie", domain.Rotation{})
		if err != nil {
			t.Fatal(err)
		}
		if refs[k.Ref()] {
			t.Errorf("%v names two secrets", k.Ref())
		}
		refs[k.Ref()] = true
		if _, _, err := a.Rotate(t.Context(), "", "movie", domain.Rotation{}); err != nil {
			t.Fatal(err)
		}
		restore(r, before)
	}
}

// TestCounterAfterFlush flushes Redis under two servers: no number is returned twice.
func TestCounterAfterFlush(t *testing.T) {
	r := startRedis(t)
	a, b := open(t, r.addr), open(t, r.addr)
	var last uint64
	for i := range 6 {
		s := a
		if i%2 == 1 {
			s = b
		}
		first, err := s.Reserve(t.Context(), 10)
		if err != nil || first <= last {
			t.Fatalf("Reserve returned %d after %d, %v", first, last, err)
		}
		last = first + 9
		if i == 3 {
			r.do("FLUSHALL")
			if first, err = b.Reserve(t.Context(), 10); err != nil || first <= last {
				t.Fatalf("after FLUSHALL, Reserve returned %d after %d, %v", first, last, err)
			}
			last = first + 9
		}
	}
	r.do("SET", counterName, "many")
	if _, err := a.Reserve(t.Context(), 1); domain.KindOf(err) != domain.Internal {
		t.Errorf("Reserve with a foreign counter: %v", err)
	}
}

// snapshot copies all of a Redis.
func snapshot(r *server) map[string]string {
	all := map[string]string{}
	for _, k := range r.do("KEYS", "*").([]any) {
		all[k.(string)] = r.do("DUMP", k).(string)
	}
	return all
}

func restore(r *server, all map[string]string) {
	r.do("FLUSHALL")
	for k, v := range all {
		r.do("RESTORE", k, 0, v)
	}
}

// TestValuesOfEarlierVersion reads values that livego 0.1 wrote before stores only stored: commands
// that write them again.
func TestValuesOfEarlierVersion(t *testing.T) {
	data, err := os.ReadFile("testdata/earlier.json")
	if err != nil {
		t.Fatal(err)
	}
	var commands [][]any
	if err := json.Unmarshal(data, &commands); err != nil {
		t.Fatal(err)
	}
	r := startRedis(t)
	for _, c := range commands {
		r.do(c...)
	}
	storetest.RunEarlier(t, open(t, r.addr).Store)
}
