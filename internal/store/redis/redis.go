// Package redis keeps rooms, push keys and counters in a Redis or Valkey that several servers share: one instance, one behind
// Sentinel, or a Cluster. It implements live.Keys, live.Counter and live.Once, and carries what is revoked on one server to the others.
// Every change is one script, which is done or not. It knows nothing of streams and of who asks.
//
// Redis may forget: a replica that takes over lacks the last writes, and anybody may flush it. So each server remembers what
// it revoked or heard of as revoked for a day, never accepts that again, and removes it again where it comes back.
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

	"livego/internal/live"
	"livego/internal/redisurl"
)

const (
	// opTimeout bounds an operation, the wait for a connection included.
	opTimeout = 2 * time.Second
	// updateTimeout bounds a change with all its tries.
	updateTimeout = 2 * opTimeout
	// poolSize bounds the connections to one node.
	poolSize = 16
	// maxOperations bounds the operations under way, so that none waits for a connection: such a wait could not be told from
	// a Redis that does not answer. What is left is for Run, and for the library's questions to a Cluster.
	maxOperations = poolSize - 2
	// maxTries is how often a change is tried while others change the same room.
	maxTries = 100
	// maxRoom bounds what is read of a room, in bytes: live.MaxKeys keys have half of it.
	maxRoom = 256 << 10
	// maxPointer bounds what is read of an index.
	maxPointer = 512
	// touchGrain is how coarse LastUsed is kept.
	touchGrain = time.Minute
	// page is how many rooms are read at a time.
	page = 500
	// maxID is the longest ID that is looked up.
	maxID = 128
)

// errSecret is the one answer to every secret that opens nothing, whatever the cause.
var errSecret = errors.New("unknown key")

// errTaken is what change answers with 2.
var errTaken = errors.New("an index leads to another room")

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

	revoked revoked
	seen    seen
	reads   reads
	slots   chan struct{} // one for each operation under way

	mu    sync.Mutex
	floor uint64 // greater than all numbers handed out here
}

// Open returns a Store. It does not wait for Redis, which may come later: Run keeps looking for it.
func Open(o Options) *Store {
	logging.Disable() // of the library's own lines, on standard error and in a form of their own: what matters comes as errors
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
		client: client, opt: o, floor: 1, revoked: newRevoked(), seen: seen{keep: o.Cache}, health: health{log: o.Log},
		reads: newReads(), slots: make(chan struct{}, maxOperations),
	}
}

// Close ends the connections. Later calls return an Error of kind Unavailable.
func (s *Store) Close() error { return s.client.Close() }

// Ready tells why the store is out of reach; nil when it is there.
func (s *Store) Ready() error { return s.health.ready() }

// Get implements live.Keys.
func (s *Store) Get(ctx context.Context, app, room string) (live.Key, error) {
	var k live.Key
	keys, err := s.read(ctx, room)
	if err != nil {
		return k, err
	}
	if i := place(keys, app, ""); i >= 0 {
		return keys[i], nil
	}
	fresh := live.Key{App: app, Room: room}.Complete()
	err = s.update(ctx, room, func(keys []live.Key) (result, error) {
		if i := place(keys, app, ""); i >= 0 {
			k = keys[i]
			return result{keys: keys, same: true}, nil
		}
		k = fresh
		return result{keys: append(keys, fresh)}, nil
	})
	if err != nil {
		return live.Key{}, err
	}
	return k, nil
}

// Rotate implements live.Keys.
func (s *Store) Rotate(ctx context.Context, app, room string, o live.Rotation) (live.Key, []live.KeyRef, error) {
	var k live.Key
	var refs []live.KeyRef
	err := s.update(ctx, room, func(keys []live.Key) (result, error) {
		k, refs = live.Key{App: app, Room: room}.Complete(), nil
		due := time.Now()
		var kept []live.Key
		for _, old := range keys {
			mine := old.App == app && (old.Label == "" || old.Label == live.FormerLabel)
			if !o.All && !mine {
				kept = append(kept, old)
				continue
			}
			refs = append(refs, old.Ref())
			if !mine || old.Label != "" {
				continue
			}
			k.ID, k.Role, k.Generation = old.ID, old.Role, max(old.Generation, s.revoked.generation(old.ID))+1
			if o.Grace > 0 && !o.All {
				former := old.Former(o.Grace)
				due = due.Add(o.Grace)
				refs = append(refs, former.Ref())
				kept = append(kept, former)
			}
		}
		return result{keys: append(kept, k), revoke: refs, due: due}, nil
	})
	if err != nil {
		return live.Key{}, nil, err
	}
	return k, refs, nil
}

// Add implements live.Keys.
func (s *Store) Add(ctx context.Context, k live.Key) (live.Key, error) {
	k = k.Complete()
	err := s.update(ctx, k.Room, func(keys []live.Key) (result, error) {
		switch {
		case place(keys, k.App, k.Label) >= 0:
			return result{}, live.Taken(k)
		case slices.ContainsFunc(keys, func(o live.Key) bool { return o.ID == k.ID || o.Secret == k.Secret }):
			return result{}, errTaken
		case len(keys) >= live.MaxKeys:
			return result{}, live.Errorf(live.Limit, "room %s has %d keys, which is the most", k.Room, len(keys))
		}
		return result{keys: append(keys, k)}, nil
	})
	switch {
	case errors.Is(err, errTaken):
		return live.Key{}, live.Errorf(live.Conflict, "this key is in the store already")
	case err != nil:
		return live.Key{}, err
	}
	return k, nil
}

// Resolve implements live.Keys. While Redis is away a key that was good lately is good, if the options say so.
func (s *Store) Resolve(ctx context.Context, app, secret string) (live.Key, error) {
	digest := live.Digest(secret)
	k, err := s.find(ctx, digest)
	switch {
	case live.KindOf(err) == live.Unavailable && ctx.Err() == nil:
		cached, ok := s.seen.get(digest, time.Now())
		if !ok {
			return live.Key{}, err
		}
		k = cached
	case err != nil:
		return live.Key{}, err
	default:
		s.seen.put(k, time.Now())
	}
	if k.Digest != digest || !k.Good(app, time.Now()) || s.revoked.has(k.Ref()) {
		return live.Key{}, &live.Error{Kind: live.Denied, Err: errSecret}
	}
	return k, nil
}

// find returns the key with this digest; a zero key when there is none.
func (s *Store) find(ctx context.Context, digest [32]byte) (live.Key, error) {
	room, err := s.follow(ctx, keyName+hex.EncodeToString(digest[:]))
	if err != nil || room == "" {
		return live.Key{}, err
	}
	keys, err := s.read(ctx, room)
	if errors.Is(err, errForeign) {
		return live.Key{}, nil // who asks shall not learn more than that his key opens nothing
	}
	for _, k := range keys {
		if k.Digest == digest {
			return k, nil
		}
	}
	return live.Key{}, err
}

// Delete implements live.Keys.
func (s *Store) Delete(ctx context.Context, app, room string) ([]live.KeyRef, error) {
	return s.remove(ctx, app, room, "room not found", true, func(k live.Key) bool { return app == "" || k.App == app })
}

// Revoke implements live.Keys.
func (s *Store) Revoke(ctx context.Context, id string) ([]live.KeyRef, error) {
	const unknown = "there is no key of this id"
	if id == "" || len(id) > maxID {
		return nil, live.Errorf(live.NotFound, unknown)
	}
	room, err := s.follow(ctx, idName+id)
	if err != nil {
		return nil, err
	}
	if room == "" {
		return nil, live.Errorf(live.NotFound, unknown)
	}
	return s.remove(ctx, "", room, unknown, false, func(k live.Key) bool { return k.ID == id })
}

// remove removes the keys of room that match; end says that their streams end. NotFound, with unknown, where there are none.
func (s *Store) remove(ctx context.Context, app, room, unknown string, end bool, match func(live.Key) bool) ([]live.KeyRef, error) {
	var refs []live.KeyRef
	err := s.update(ctx, room, func(keys []live.Key) (result, error) {
		refs = nil
		var kept []live.Key
		for _, k := range keys {
			if match(k) {
				refs = append(refs, k.Ref())
			} else {
				kept = append(kept, k)
			}
		}
		if refs == nil {
			return result{}, live.Errorf(live.NotFound, "%s", unknown)
		}
		return result{keys: kept, revoke: refs, due: time.Now(), end: end, app: app}, nil
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// List implements live.Keys.
func (s *Store) List(ctx context.Context, room string) ([]live.Key, error) {
	var keys []live.Key
	var err error
	if room != "" {
		keys, err = s.read(ctx, room)
	} else {
		keys, err = s.Dump(ctx)
	}
	for i := range keys {
		keys[i].Secret = ""
	}
	return keys, err
}

// Page implements live.Keys. A room whose value is not livego's counts, and has no keys.
func (s *Store) Page(ctx context.Context, after string, limit int) ([]live.Key, error) {
	names, err := s.rooms(ctx, after, limit)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	keys, err := s.readMany(ctx, names)
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
		names, err = s.client.ZRangeByLex(ctx, roomsName, &goredis.ZRangeBy{Min: from, Max: "+", Count: int64(limit)}).Result()
		return err
	})
	return names, err
}

// Dump implements live.Keys. A room whose value is not livego's is passed over, and the log names it.
func (s *Store) Dump(ctx context.Context) ([]live.Key, error) {
	var all []live.Key
	for after := ""; ; {
		names, err := s.rooms(ctx, after, page)
		if err != nil || len(names) == 0 {
			return all, err
		}
		keys, err := s.readMany(ctx, names)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
		after = names[len(names)-1]
	}
}

// readMany returns the keys of rooms, in their order.
func (s *Store) readMany(ctx context.Context, rooms []string) ([]live.Key, error) {
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
	var all []live.Key
	for i, name := range rooms {
		keys, err := decodeRoom(name, values[i].Val())
		if err == nil && isForeign(values[i].Err()) {
			err = errForeign
		}
		if err != nil {
			s.opt.Log.Warn("passed over a room", "room", name, "err", err)
			continue
		}
		all = append(all, s.revoked.without(keys)...)
	}
	return all, nil
}

// Touch implements live.Keys. Times are kept to the minute.
func (s *Store) Touch(ctx context.Context, ref live.KeyRef, at time.Time) error {
	if ref.ID == "" || len(ref.ID) > maxID {
		return nil
	}
	room, err := s.follow(ctx, idName+ref.ID)
	if err != nil || room == "" {
		return err
	}
	stale := func(keys []live.Key) int {
		return slices.IndexFunc(keys, func(k live.Key) bool { return k.Ref() == ref && at.Sub(k.LastUsed) >= touchGrain })
	}
	keys, err := s.read(ctx, room)
	if err != nil || stale(keys) < 0 {
		return err
	}
	return s.update(ctx, room, func(keys []live.Key) (result, error) {
		i := stale(keys)
		if i < 0 {
			return result{keys: keys, same: true}, nil
		}
		keys[i].LastUsed = at.UTC().Round(0)
		return result{keys: keys}, nil
	})
}

// Reserve implements live.Counter.
func (s *Store) Reserve(ctx context.Context, n uint64) (uint64, error) {
	s.mu.Lock()
	floor := s.floor
	s.mu.Unlock()
	var first uint64
	err := s.do(ctx, func(ctx context.Context) error {
		text, err := reserve.Run(ctx, s.client, []string{counterName}, n, floor).Text()
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
	s.floor = max(s.floor, first+n)
	return first, nil
}

// Spend implements live.Once. What a Redis forgets is good again: a replica that takes over may lack the last moment.
func (s *Store) Spend(ctx context.Context, id [16]byte, until time.Time) (bool, error) {
	name := spentName + hex.EncodeToString(id[:])
	first := false
	err := s.do(ctx, func(ctx context.Context) error {
		err := s.client.SetArgs(ctx, name, seal(name, struct{}{}), goredis.SetArgs{Mode: "NX", TTL: max(time.Second, time.Until(until))}).Err()
		if first = err == nil; errors.Is(err, goredis.Nil) {
			return nil
		}
		return err
	})
	return first, err
}

// Spent implements live.Once.
func (s *Store) Spent(ctx context.Context, id [16]byte, _ time.Time) (bool, error) {
	known := int64(0)
	err := s.do(ctx, func(ctx context.Context) (err error) {
		known, err = s.client.Exists(ctx, spentName+hex.EncodeToString(id[:])).Result()
		return err
	})
	return known > 0, err
}

// result is what becomes of a room.
type result struct {
	keys   []live.Key
	same   bool          // nothing is to be changed
	revoke []live.KeyRef // at due
	due    time.Time
	end    bool   // their streams end
	app    string // with end: the only app whose keys went; "": all
}

// update changes a room as one operation. fn may be called again with what others have made of the room meanwhile. It does not see
// keys that were revoked and have come back; they go at the first write.
func (s *Store) update(ctx context.Context, name string, fn func([]live.Key) (result, error)) error {
	deadline := time.Now().Add(updateTimeout)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := s.tryUpdate(bounded, name, fn)
	if err != nil && !time.Now().Before(deadline) && ctx.Err() == nil && s.health.refuse() == nil {
		return busy() // its time went by in queues of this server
	}
	return err
}

func (s *Store) tryUpdate(ctx context.Context, name string, fn func([]live.Key) (result, error)) error {
	for range maxTries {
		value, old, good, err := s.load(ctx, name)
		if err != nil {
			return err
		}
		r, err := fn(slices.Clone(good))
		if err != nil || r.same && len(good) == len(old) {
			return err
		}
		done, err := s.write(ctx, name, value, old, r)
		if done || err != nil {
			return err
		}
	}
	return live.Errorf(live.Unavailable, "room %s is being changed by too many at once", name)
}

// write has r replace a room whose value was read as old. It reports false when the room is another by now.
func (s *Store) write(ctx context.Context, name, value string, old []live.Key, r result) (done bool, err error) {
	now := time.Now()
	// A key that was replaced, and whose time is over, is in the way of nobody.
	r.keys = slices.DeleteFunc(r.keys, func(k live.Key) bool {
		return k.Label == live.FormerLabel && !k.Expires.IsZero() && now.After(k.Expires)
	})
	slices.SortFunc(r.keys, byPlace)

	names := []string{roomName + name, roomsName, revokedName}
	listed := "0"
	if len(r.keys) > 0 {
		listed = "1"
	}
	args := []any{value, encodeRoom(name, r.keys), name, listed, "", strconv.FormatInt(now.Add(-remember).UnixMilli(), 10)}
	var e entry
	if len(r.revoke) > 0 {
		e = newEntry(name, r)
		args[4] = seal(revokedName, e)
	}
	for _, c := range changed(old, r.keys) {
		names = append(names, c.name)
		if c.gone {
			args = append(args, "")
		} else {
			args = append(args, seal(c.name, pointer{name}))
		}
	}
	var answer int64
	err = s.do(ctx, func(ctx context.Context) (err error) {
		answer, err = change.Run(ctx, s.client, names, args...).Int64()
		return err
	})
	switch {
	case err != nil:
		return false, err
	case answer == 2:
		return false, errTaken
	case answer == 1 && len(r.revoke) > 0:
		s.revoked.made(e, now)
	}
	return answer == 1, nil
}

// index is the change of one index.
type index struct {
	name string
	gone bool
}

// changed returns which indexes differ between two states of a room.
func changed(old, keys []live.Key) []index {
	had := map[string]bool{}
	for _, k := range old {
		for _, n := range indexes(k) {
			had[n] = true
		}
	}
	var all []index
	for _, k := range keys {
		for _, n := range indexes(k) {
			if !had[n] {
				all = append(all, index{n, false})
			}
			delete(had, n)
		}
	}
	for n := range had {
		all = append(all, index{n, true})
	}
	slices.SortFunc(all, func(a, b index) int { return cmp.Compare(a.name, b.name) })
	return all
}

// read returns the keys of a room, without those that were revoked and have come back.
func (s *Store) read(ctx context.Context, room string) ([]live.Key, error) {
	_, _, good, err := s.load(ctx, room)
	return good, err
}

// load returns what stands for a room, its keys, and those of them that were not revoked. A revoked key among them may have come
// back; or it was read just before somebody here replaced it, and then the room has another by now. A second look tells: it begins
// after the revocation was acknowledged.
func (s *Store) load(ctx context.Context, room string) (value string, all, good []live.Key, err error) {
	before := ""
	for {
		if value, err = s.value(ctx, roomName+room, maxRoom); err != nil {
			return "", nil, nil, err
		}
		if all, err = decodeRoom(room, value); err != nil {
			return "", nil, nil, s.foreign(room)
		}
		good = s.revoked.without(all)
		if len(good) == len(all) || value == before {
			return value, all, good, nil
		}
		before = value
	}
}

func (s *Store) foreign(room string) error {
	return &live.Error{Op: fmt.Sprintf("key store, %s%s", roomName, room), Err: errForeign}
}

// follow returns the room that an index leads to, "" for none. What is not of ours leads nowhere.
func (s *Store) follow(ctx context.Context, name string) (string, error) {
	value, err := s.value(ctx, name, maxPointer)
	if errors.Is(err, errForeign) || err == nil && value == "" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var p pointer
	if unseal(name, value, &p) != nil || live.CheckRoom(p.Room) != nil {
		return "", nil
	}
	return p.Room, nil
}

// place returns the index of the key of that place, -1 for none.
func place(keys []live.Key, app, label string) int {
	return slices.IndexFunc(keys, func(k live.Key) bool { return k.App == app && k.Label == label })
}

// do runs one operation, bounded in time, unless Redis is known to be away. While too many are under way it waits for one to
// end, and its own time starts then. The error is a live.Error.
func (s *Store) do(ctx context.Context, op func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return away(err)
	}
	if err := s.health.refuse(); err != nil {
		return away(err)
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer func() { <-s.slots }()
	if err := s.health.refuse(); err != nil { // found out while this one waited
		return away(err)
	}
	return s.try(ctx, op)
}

// acquire takes a slot, which the caller gives back.
func (s *Store) acquire(ctx context.Context) error {
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
		return busy()
	case <-ctx.Done():
		return away(ctx.Err())
	}
}

// try runs one operation whatever is known of Redis.
func (s *Store) try(ctx context.Context, op func(context.Context) error) error {
	// A caller that has less time learns nothing of Redis when that is over. The connection may report it before ctx does.
	deadline, ok := ctx.Deadline()
	hurried := ok && time.Until(deadline) < opTimeout
	bounded, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	err := op(bounded)
	switch {
	case err == nil:
		s.health.up()
		return nil
	case isForeign(err):
		return &live.Error{Op: "key store", Err: errForeign}
	case answered(err):
		s.health.refused(err)
	case errors.Is(err, goredis.ErrPoolTimeout), errors.Is(err, goredis.ErrPoolExhausted):
		return busy() // on this side; Redis was not asked
	case ctx.Err() == nil && !errors.Is(err, goredis.ErrClosed) && !(hurried && isTimeout(err)):
		s.health.down(err)
		if c, ok := s.client.(*goredis.ClusterClient); ok {
			c.ReloadState(ctx) // it would go on asking a node that is dead for a minute
		}
	}
	return away(err)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// isForeign reports whether err says that a value is not of ours.
func isForeign(err error) bool {
	return errors.Is(err, errForeign) || err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") ||
		err != nil && strings.Contains(err.Error(), "WRONGTYPE ") && answered(err)
}

// answered reports whether err is the answer of a Redis that is there, and would answer something else at another time or to
// another request: that of a replica to a write, of a full memory, of a script that others' scripts hold up.
func answered(err error) bool {
	var e goredis.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, bad := range []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password", "ERR max number of clients"} {
		if strings.HasPrefix(err.Error(), bad) {
			return false
		}
	}
	return true
}

// unavailable is a cause that is not for whoever is refused.
type unavailable struct{ cause error }

func (unavailable) Error() string   { return "key store unavailable" }
func (u unavailable) Unwrap() error { return u.cause }

// away says that the store is out of reach; the cause is in the chain, for errors.Is and the log.
func away(cause error) error { return &live.Error{Kind: live.Unavailable, Err: unavailable{cause}} }
