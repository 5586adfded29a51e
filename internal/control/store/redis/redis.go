// Package redis keeps rooms, push keys and counters in a Redis or Valkey that several servers
// share: one instance, one behind Sentinel, or a Cluster. It implements domain.KeyStore,
// domain.Counter and domain.OneTimeTokenStore, and carries what is revoked on one server to the
// others. Every change is one script, which is done or not. It knows nothing of streams and of who
// asks.
//
// Redis may forget: a replica that takes over lacks the last writes, and anybody may flush it. So
// each server remembers what it revoked or heard of as revoked for a day, never accepts that again,
// and removes it again where it comes back.
package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"livego/internal/domain"
	"livego/internal/ops/redisurl"
)

const (
	// opTimeout bounds an operation, the wait for a connection included.
	opTimeout = 2 * time.Second
	// updateTimeout bounds a change with all its tries.
	updateTimeout = 2 * opTimeout
	// poolSize bounds the connections to one node.
	poolSize = 16
	// maxOperations bounds the operations under way, so that none waits for a connection: such a wait
	// could not be told from a Redis that does not answer. What is left is for Run, and for the
	// library's questions to a Cluster.
	maxOperations = poolSize - 2
	// maxTries is how often a change is tried while others change the same room.
	maxTries = 100
	// maxRoom bounds what is read of a room, in bytes: domain.MaxKeys keys have half of it.
	maxRoom = 256 << 10
	// maxIndexValue bounds what is read of an index.
	maxIndexValue = 512
	// touchResolution is how coarse LastUsed is kept.
	touchResolution = time.Minute
	// roomsPerBatch is how many rooms are read at a time.
	roomsPerBatch = 500
	// maxID is the longest ID that is looked up.
	maxID = 128
)

// errUnknownKey is the one answer to every secret that opens nothing, whatever the cause.
var errUnknownKey = errors.New("unknown key")

// errIndexConflict is what change answers with 2.
var errIndexConflict = errors.New("an index leads to another room")

// Options of a Store.
type Options struct {
	Address  redisurl.Address
	NoVerify bool          // takes any certificate of a Redis over TLS
	TLS      *tls.Config   // what to build on; nil: the system's roots
	Cache    time.Duration // how long a key that was good still resolves while Redis is away; 0: not at all
	Log      *slog.Logger
}

// A Store is a client of one Redis. Its methods are safe for concurrent use.
type Store struct {
	client goredis.UniversalClient
	opt    Options
	health health

	revocations revocations
	cache       keyCache
	reads       readBatcher
	slots       chan struct{} // one for each operation under way

	mu           sync.Mutex
	counterFloor uint64 // greater than all numbers handed out here
}

// Open returns a Store. It does not wait for Redis, which may come later: Run keeps looking for it.
func Open(o Options) *Store {
	// of the library's own lines, on standard error and in a form of their own: what matters comes as
	// errors
	logging.Disable()
	a := o.Address
	client := goredis.NewUniversalClient(&goredis.UniversalOptions{
		Addrs: a.Hosts, MasterName: a.Master, IsClusterMode: a.Cluster, DB: a.DB,
		Username: a.User, Password: a.Password, SentinelUsername: a.SentinelUser, SentinelPassword: a.SentinelPassword,
		Dialer: dialer(o), DialTimeout: opTimeout, DialerRetries: 1,
		ReadTimeout: opTimeout, WriteTimeout: opTimeout, ContextTimeoutEnabled: true,
		PoolSize: poolSize, MaxActiveConns: poolSize, PoolTimeout: opTimeout, PipelinePoolSize: -1,
		MaxRetries: -1, // whether the first try was done nobody knows
		Protocol:   2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return &Store{
		client: client, opt: o, counterFloor: 1, revocations: newRevocations(), cache: keyCache{ttl: o.Cache},
		health: health{log: o.Log},
		reads:  newReadBatcher(), slots: make(chan struct{}, maxOperations),
	}
}

// Close ends the connections. Later calls return an Error of kind Unavailable.
func (s *Store) Close() error { return s.client.Close() }

// Ready tells why the store is out of reach; nil when it is there.
func (s *Store) Ready() error { return s.health.ready() }

// Get implements domain.KeyStore.
func (s *Store) Get(ctx context.Context, app, room string) (domain.Key, error) {
	var k domain.Key
	keys, err := s.readRoom(ctx, room)
	if err != nil {
		return k, err
	}
	if i := keyIndex(keys, app, ""); i >= 0 {
		return keys[i], nil
	}
	fresh := domain.Key{App: app, Room: room}.Complete()
	err = s.update(ctx, room, func(keys []domain.Key) (roomUpdate, error) {
		if i := keyIndex(keys, app, ""); i >= 0 {
			k = keys[i]
			return roomUpdate{keys: keys, unchanged: true}, nil
		}
		k = fresh
		return roomUpdate{keys: append(keys, fresh)}, nil
	})
	if err != nil {
		return domain.Key{}, err
	}
	return k, nil
}

// Rotate implements domain.KeyStore.
func (s *Store) Rotate(ctx context.Context, app, room string, o domain.Rotation) (domain.Key, []domain.KeyRef, error) {
	var k domain.Key
	var refs []domain.KeyRef
	err := s.update(ctx, room, func(keys []domain.Key) (roomUpdate, error) {
		k, refs = domain.Key{App: app, Room: room}.Complete(), nil
		due := time.Now()
		var kept []domain.Key
		for _, old := range keys {
			mine := old.App == app && (old.Label == "" || old.Label == domain.FormerLabel)
			if !o.RevokeOthers && !mine {
				kept = append(kept, old)
				continue
			}
			refs = append(refs, old.Ref())
			if !mine || old.Label != "" {
				continue
			}
			k.ID, k.Role, k.Generation = old.ID, old.Role, max(old.Generation, s.revocations.generation(old.ID))+1
			if o.Grace > 0 && !o.RevokeOthers {
				former := old.Former(o.Grace)
				due = due.Add(o.Grace)
				refs = append(refs, former.Ref())
				kept = append(kept, former)
			}
		}
		return roomUpdate{keys: append(kept, k), revoke: refs, due: due}, nil
	})
	if err != nil {
		return domain.Key{}, nil, err
	}
	return k, refs, nil
}

// Add implements domain.KeyStore.
func (s *Store) Add(ctx context.Context, k domain.Key) (domain.Key, error) {
	k = k.Complete()
	err := s.update(ctx, k.Room, func(keys []domain.Key) (roomUpdate, error) {
		switch {
		case keyIndex(keys, k.App, k.Label) >= 0:
			return roomUpdate{}, domain.LabelConflict(k)
		case slices.ContainsFunc(keys, func(o domain.Key) bool { return o.ID == k.ID || o.Secret == k.Secret }):
			return roomUpdate{}, errIndexConflict
		case len(keys) >= domain.MaxKeys:
			return roomUpdate{}, domain.Errorf(domain.Limit, "room %s has %d keys, which is the most", k.Room, len(keys))
		}
		return roomUpdate{keys: append(keys, k)}, nil
	})
	switch {
	case errors.Is(err, errIndexConflict):
		return domain.Key{}, domain.Errorf(domain.Conflict, "this key is in the store already")
	case err != nil:
		return domain.Key{}, err
	}
	return k, nil
}

// Resolve implements domain.KeyStore. While Redis is away a key that was good lately is good, if the options say so.
func (s *Store) Resolve(ctx context.Context, app, secret string) (domain.Key, error) {
	digest := domain.Digest(secret)
	k, err := s.find(ctx, digest)
	switch {
	case domain.KindOf(err) == domain.Unavailable && ctx.Err() == nil:
		cached, ok := s.cache.get(digest, time.Now())
		if !ok {
			return domain.Key{}, err
		}
		k = cached
	case err != nil:
		return domain.Key{}, err
	default:
		s.cache.put(k, time.Now())
	}
	if k.Digest != digest || !k.ValidFor(app, time.Now()) || s.revocations.has(k.Ref()) {
		return domain.Key{}, &domain.Error{Kind: domain.Denied, Err: errUnknownKey}
	}
	return k, nil
}

// find returns the key with this digest; a zero key when there is none.
func (s *Store) find(ctx context.Context, digest [32]byte) (domain.Key, error) {
	room, err := s.lookupIndex(ctx, keyName+hex.EncodeToString(digest[:]))
	if err != nil || room == "" {
		return domain.Key{}, err
	}
	keys, err := s.readRoom(ctx, room)
	if errors.Is(err, errForeign) {
		return domain.Key{}, nil // who asks shall not learn more than that his key opens nothing
	}
	for _, k := range keys {
		if k.Digest == digest {
			return k, nil
		}
	}
	return domain.Key{}, err
}

// Delete implements domain.KeyStore.
func (s *Store) Delete(ctx context.Context, app, room string) ([]domain.KeyRef, error) {
	return s.remove(ctx, app, room, "room not found", true, func(k domain.Key) bool { return app == "" || k.App == app })
}

// Revoke implements domain.KeyStore.
func (s *Store) Revoke(ctx context.Context, id string) ([]domain.KeyRef, error) {
	const unknown = "there is no key of this id"
	if id == "" || len(id) > maxID {
		return nil, domain.Errorf(domain.NotFound, unknown)
	}
	room, err := s.lookupIndex(ctx, idName+id)
	if err != nil {
		return nil, err
	}
	if room == "" {
		return nil, domain.Errorf(domain.NotFound, unknown)
	}
	return s.remove(ctx, "", room, unknown, false, func(k domain.Key) bool { return k.ID == id })
}

// remove removes the keys of room that match; end says that their streams end. NotFound, with
// unknown, where there are none.
func (s *Store) remove(ctx context.Context, app, room, unknown string, end bool,
	match func(domain.Key) bool) ([]domain.KeyRef, error) {
	var refs []domain.KeyRef
	err := s.update(ctx, room, func(keys []domain.Key) (roomUpdate, error) {
		refs = nil
		var kept []domain.Key
		for _, k := range keys {
			if match(k) {
				refs = append(refs, k.Ref())
			} else {
				kept = append(kept, k)
			}
		}
		if refs == nil {
			return roomUpdate{}, domain.Errorf(domain.NotFound, "%s", unknown)
		}
		return roomUpdate{keys: kept, revoke: refs, due: time.Now(), endStreams: end, app: app}, nil
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// List implements domain.KeyStore.
func (s *Store) List(ctx context.Context, room string) ([]domain.Key, error) {
	var keys []domain.Key
	var err error
	if room != "" {
		keys, err = s.readRoom(ctx, room)
	} else {
		keys, err = s.Dump(ctx)
	}
	for i := range keys {
		keys[i].Secret = ""
	}
	return keys, err
}

// Page implements domain.KeyStore. A room whose value is not livego's counts, and has no keys.
func (s *Store) Page(ctx context.Context, after string, limit int) ([]domain.Key, error) {
	names, err := s.rooms(ctx, after, limit)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	keys, err := s.readRooms(ctx, names)
	for i := range keys {
		keys[i].Secret = ""
	}
	return keys, err
}

// rooms returns the first limit rooms after the given one.
func (s *Store) rooms(ctx context.Context, after string, limit int) ([]string, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	var names []string
	err := s.do(ctx, func(ctx context.Context) (err error) {
		names, err = s.client.ZRangeByLex(ctx, roomsName,
			&goredis.ZRangeBy{Min: from, Max: "+", Count: int64(limit)}).Result()
		return err
	})
	return names, err
}

// Dump implements domain.KeyStore. A room whose value is not livego's is passed over, and the log names it.
func (s *Store) Dump(ctx context.Context) ([]domain.Key, error) {
	var all []domain.Key
	for after := ""; ; {
		names, err := s.rooms(ctx, after, roomsPerBatch)
		if err != nil || len(names) == 0 {
			return all, err
		}
		keys, err := s.readRooms(ctx, names)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
		after = names[len(names)-1]
	}
}

// readRooms returns the keys of rooms, in their order.
func (s *Store) readRooms(ctx context.Context, rooms []string) ([]domain.Key, error) {
	values := make([]*goredis.StringCmd, len(rooms))
	err := s.do(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i, name := range rooms {
			values[i] = pipe.GetRange(ctx, roomName+name, 0, maxRoom)
		}
		_, err := pipe.Exec(ctx)
		if isForeign(err) {
			return nil // each is looked at
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []domain.Key
	for i, name := range rooms {
		keys, err := decodeRoom(name, values[i].Val())
		if err == nil && isForeign(values[i].Err()) {
			err = errForeign
		}
		if err != nil {
			s.opt.Log.Warn("passed over a room", "room", name, "err", err)
			continue
		}
		all = append(all, s.revocations.without(keys)...)
	}
	return all, nil
}

// Touch implements domain.KeyStore. Times are kept to the minute.
func (s *Store) Touch(ctx context.Context, ref domain.KeyRef, at time.Time) error {
	if ref.ID == "" || len(ref.ID) > maxID {
		return nil
	}
	room, err := s.lookupIndex(ctx, idName+ref.ID)
	if err != nil || room == "" {
		return err
	}
	stale := func(keys []domain.Key) int {
		return slices.IndexFunc(keys, func(k domain.Key) bool {
			return k.Ref() == ref &&
				at.Sub(k.LastUsed) >= touchResolution
		})
	}
	keys, err := s.readRoom(ctx, room)
	if err != nil || stale(keys) < 0 {
		return err
	}
	return s.update(ctx, room, func(keys []domain.Key) (roomUpdate, error) {
		i := stale(keys)
		if i < 0 {
			return roomUpdate{keys: keys, unchanged: true}, nil
		}
		keys[i].LastUsed = at.UTC().Round(0)
		return roomUpdate{keys: keys}, nil
	})
}

// Reserve implements domain.Counter.
func (s *Store) Reserve(ctx context.Context, n uint64) (uint64, error) {
	s.mu.Lock()
	floor := s.counterFloor
	s.mu.Unlock()
	var first uint64
	err := s.do(ctx, func(ctx context.Context) error {
		text, err := reserveScript.Run(ctx, s.client, []string{counterName}, n, floor).Text()
		if err != nil {
			return err
		}
		if first, err = strconv.ParseUint(text, 10, 53); err != nil || first < floor {
			return errForeign
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counterFloor = max(s.counterFloor, first+n)
	return first, nil
}

// Consume implements domain.OneTimeTokenStore. What a Redis forgets is good again: a replica that
// takes over may lack the last moment.
func (s *Store) Consume(ctx context.Context, id [16]byte, until time.Time) (bool, error) {
	name := consumedName + hex.EncodeToString(id[:])
	first := false
	err := s.do(ctx, func(ctx context.Context) error {
		err := s.client.SetArgs(ctx, name, encodeValue(name, struct{}{}),
			goredis.SetArgs{Mode: "NX", TTL: max(time.Second, time.Until(until))}).Err()
		if first = err == nil; errors.Is(err, goredis.Nil) {
			return nil
		}
		return err
	})
	return first, err
}

// Consumed implements domain.OneTimeTokenStore.
func (s *Store) Consumed(ctx context.Context, id [16]byte, _ time.Time) (bool, error) {
	known := int64(0)
	err := s.do(ctx, func(ctx context.Context) (err error) {
		known, err = s.client.Exists(ctx, consumedName+hex.EncodeToString(id[:])).Result()
		return err
	})
	return known > 0, err
}

// roomUpdate is what becomes of a room.
type roomUpdate struct {
	keys       []domain.Key
	unchanged  bool            // nothing is to be changed
	revoke     []domain.KeyRef // at due
	due        time.Time
	endStreams bool   // their streams endStreams
	app        string // with end: the only app whose keys went; "": all
}

// update changes a room as one operation. fn may be called again with what others have made of the
// room meanwhile. It does not see keys that were revoked and have come back; they go at the first
// write.
func (s *Store) update(ctx context.Context, name string, fn func([]domain.Key) (roomUpdate, error)) error {
	deadline := time.Now().Add(updateTimeout)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := s.tryUpdate(bounded, name, fn)
	if err != nil && !time.Now().Before(deadline) && ctx.Err() == nil && s.health.checkUsable() == nil {
		return storeBusy() // its time went by in queues of this server
	}
	return err
}

func (s *Store) tryUpdate(ctx context.Context, name string, fn func([]domain.Key) (roomUpdate, error)) error {
	for range maxTries {
		value, old, good, err := s.loadRoom(ctx, name)
		if err != nil {
			return err
		}
		r, err := fn(slices.Clone(good))
		if err != nil || r.unchanged && len(good) == len(old) {
			return err
		}
		done, err := s.write(ctx, name, value, old, r)
		if done || err != nil {
			return err
		}
	}
	return domain.Errorf(domain.Unavailable, "room %s is being changed by too many at once", name)
}

// write has r replace a room whose value was read as old. It reports false when the room is another by now.
func (s *Store) write(ctx context.Context, name, value string, old []domain.Key, r roomUpdate) (done bool, err error) {
	now := time.Now()
	// A key that was replaced, and whose time is over, is in the way of nobody.
	r.keys = slices.DeleteFunc(r.keys, func(k domain.Key) bool {
		return k.Label == domain.FormerLabel && !k.Expires.IsZero() && now.After(k.Expires)
	})
	slices.SortFunc(r.keys, compareKeys)

	names := []string{roomName + name, roomsName, revokedName}
	listed := "0"
	if len(r.keys) > 0 {
		listed = "1"
	}
	args := []any{value, encodeRoom(name, r.keys), name, listed, "",
		strconv.FormatInt(now.Add(-revocationTTL).UnixMilli(), 10)}
	var e revocationEntry
	if len(r.revoke) > 0 {
		e = newRevocationEntry(name, r)
		args[4] = encodeValue(revokedName, e)
	}
	for _, c := range indexChanges(old, r.keys) {
		names = append(names, c.name)
		if c.removed {
			args = append(args, "")
		} else {
			args = append(args, encodeValue(c.name, indexValue{name}))
		}
	}
	var answer int64
	err = s.do(ctx, func(ctx context.Context) (err error) {
		answer, err = changeScript.Run(ctx, s.client, names, args...).Int64()
		return err
	})
	switch {
	case err != nil:
		return false, err
	case answer == 2:
		return false, errIndexConflict
	case answer == 1 && len(r.revoke) > 0:
		s.revocations.addOwn(e, now)
	}
	return answer == 1, nil
}

// indexChange is the change of one indexChange.
type indexChange struct {
	name    string
	removed bool
}

// indexChanges returns which indexes differ between two states of a room.
func indexChanges(old, keys []domain.Key) []indexChange {
	had := map[string]bool{}
	for _, k := range old {
		for _, n := range indexNames(k) {
			had[n] = true
		}
	}
	var all []indexChange
	for _, k := range keys {
		for _, n := range indexNames(k) {
			if !had[n] {
				all = append(all, indexChange{n, false})
			}
			delete(had, n)
		}
	}
	for n := range had {
		all = append(all, indexChange{n, true})
	}
	slices.SortFunc(all, func(a, b indexChange) int { return cmp.Compare(a.name, b.name) })
	return all
}

// readRoom returns the keys of a room, without those that were revoked and have come back.
func (s *Store) readRoom(ctx context.Context, room string) ([]domain.Key, error) {
	_, _, good, err := s.loadRoom(ctx, room)
	return good, err
}

// loadRoom returns what stands for a room, its keys, and those of them that were not revoked. A
// revoked key among them may have come back; or it was read just before somebody here replaced it,
// and then the room has another by now. A second look tells: it begins after the revocation was
// acknowledged.
func (s *Store) loadRoom(ctx context.Context, room string) (value string, all, good []domain.Key, err error) {
	before := ""
	for {
		if value, err = s.readValue(ctx, roomName+room, maxRoom); err != nil {
			return "", nil, nil, err
		}
		if all, err = decodeRoom(room, value); err != nil {
			return "", nil, nil, s.foreignRoom(room)
		}
		good = s.revocations.without(all)
		if len(good) == len(all) || value == before {
			return value, all, good, nil
		}
		before = value
	}
}

func (s *Store) foreignRoom(room string) error {
	return &domain.Error{Op: fmt.Sprintf("key store, %s%s", roomName, room), Err: errForeign}
}

// lookupIndex returns the room that an index leads to, "" for none. What is not of ours leads nowhere.
func (s *Store) lookupIndex(ctx context.Context, name string) (string, error) {
	value, err := s.readValue(ctx, name, maxIndexValue)
	if errors.Is(err, errForeign) || err == nil && value == "" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var p indexValue
	if decodeValue(name, value, &p) != nil || domain.CheckRoom(p.Room) != nil {
		return "", nil
	}
	return p.Room, nil
}

// keyIndex returns the index of the key of that keyIndex, -1 for none.
func keyIndex(keys []domain.Key, app, label string) int {
	return slices.IndexFunc(keys, func(k domain.Key) bool { return k.App == app && k.Label == label })
}

// do runs one operation, bounded in time, unless Redis is known to be away. While too many are
// under way it waits for one to end, and its own time starts then. The error is a domain.Error.
func (s *Store) do(ctx context.Context, op func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return storeUnavailable(err)
	}
	if err := s.health.checkUsable(); err != nil {
		return storeUnavailable(err)
	}
	if err := s.acquireSlot(ctx); err != nil {
		return err
	}
	defer func() { <-s.slots }()
	if err := s.health.checkUsable(); err != nil { // found out while this one waited
		return storeUnavailable(err)
	}
	return s.runOp(ctx, op)
}

// acquireSlot takes a slot, which the caller gives back.
func (s *Store) acquireSlot(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(opTimeout)
	defer t.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-t.C:
		return storeBusy()
	case <-ctx.Done():
		return storeUnavailable(ctx.Err())
	}
}

// runOp runs one operation whatever is known of Redis.
func (s *Store) runOp(ctx context.Context, op func(context.Context) error) error {
	// A caller that has less time learns nothing of Redis when that is over. The connection may report it before ctx does.
	deadline, ok := ctx.Deadline()
	hurried := ok && time.Until(deadline) < opTimeout
	bounded, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	err := op(bounded)
	switch {
	case err == nil:
		s.health.markUp()
		return nil
	case isForeign(err):
		return &domain.Error{Op: "key store", Err: errForeign}
	case isReply(err):
		s.health.logRefusal(err)
	case errors.Is(err, goredis.ErrPoolTimeout), errors.Is(err, goredis.ErrPoolExhausted):
		return storeBusy() // on this side; Redis was not asked
	case ctx.Err() == nil && !errors.Is(err, goredis.ErrClosed) && !(hurried && isTimeout(err)):
		s.health.markDown(err)
		if c, ok := s.client.(*goredis.ClusterClient); ok {
			c.ReloadState(ctx) // it would go on asking a node that is dead for a minute
		}
	}
	return storeUnavailable(err)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// isForeign reports whether err says that a value is not of ours.
func isForeign(err error) bool {
	return errors.Is(err, errForeign) || err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") ||
		err != nil && strings.Contains(err.Error(), "WRONGTYPE ") && isReply(err)
}

// isReply reports whether err is the answer of a Redis that is there, and would answer something
// else at another time or to another request: that of a replica to a write, of a full memory, of a
// script that others' scripts hold up.
func isReply(err error) bool {
	var e goredis.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, bad := range []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH",
		"ERR invalid password", "ERR max number of clients"} {
		if strings.HasPrefix(err.Error(), bad) {
			return false
		}
	}
	return true
}

// unavailableError is a cause that is not for whoever is refused.
type unavailableError struct{ cause error }

func (unavailableError) Error() string   { return "key store unavailable" }
func (u unavailableError) Unwrap() error { return u.cause }

// storeUnavailable says that the store is out of reach; the cause is in the chain, for errors.Is and the log.
func storeUnavailable(cause error) error {
	return &domain.Error{Kind: domain.Unavailable, Err: unavailableError{cause}}
}
