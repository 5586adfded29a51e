// Package redis stores rooms, stream keys and counters in a Redis or Valkey that several servers
// share: a single instance, one behind Sentinel, or a Cluster. It implements domain.Store, and
// distributes revocations from one server to the others. Every change is one script, so it is atomic.
// It knows nothing of streams and clients.
//
// Redis may lose data: a replica that becomes the master lacks the last writes, and an operator may
// flush it. So each server remembers every revocation for a day, never accepts a revoked key again,
// and removes it again when it reappears.
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
	// opTimeout bounds an operation, including the wait for a connection.
	opTimeout = 2 * time.Second
	// updateTimeout bounds a change with all its attempts.
	updateTimeout = 2 * opTimeout
	// poolSize bounds the connections to one node.
	poolSize = 16
	// maxOperations bounds the concurrent operations, so that none waits for a connection: such a
	// wait looks like a Redis that does not answer. The other connections are for Run, and for the
	// library's requests to a Cluster.
	maxOperations = poolSize - 2
	// maxTries is the number of attempts of a change while others change the same room.
	maxTries = 100
	// maxRoom is the largest value of a room, in bytes: domain.MaxKeys keys take half of it.
	maxRoom = 256 << 10
	// maxIndexValue is the largest value of an index entry, in bytes.
	maxIndexValue = 512
	// roomsPerBatch is how many rooms are read at a time.
	roomsPerBatch = 500
	// maxID is the longest ID that is looked up, in bytes.
	maxID = 128
)

// Options configure a Store.
type Options struct {
	Address  redisurl.Address
	NoVerify bool          // accept any certificate of a Redis over TLS
	TLS      *tls.Config   // the base configuration; nil: the system's roots
	Cache    time.Duration // how long a key that was valid still resolves while Redis is unavailable; 0: not at all
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
	slots       chan struct{} // one for each operation in progress

	mu           sync.Mutex
	counterFloor uint64 // greater than all numbers returned here
}

// Open returns a Store. It does not wait for Redis, which may start later: Run keeps connecting to
// it.
func Open(o Options) *Store {
	// The library logs to standard error in its own format; everything important is returned as an
	// error.
	logging.Disable()
	a := o.Address
	client := goredis.NewUniversalClient(&goredis.UniversalOptions{
		Addrs: a.Hosts, MasterName: a.Master, IsClusterMode: a.Cluster, DB: a.DB,
		Username: a.User, Password: a.Password, SentinelUsername: a.SentinelUser, SentinelPassword: a.SentinelPassword,
		Dialer: dialer(o), DialTimeout: opTimeout, DialerRetries: 1,
		ReadTimeout: opTimeout, WriteTimeout: opTimeout, ContextTimeoutEnabled: true,
		PoolSize: poolSize, MaxActiveConns: poolSize, PoolTimeout: opTimeout, PipelinePoolSize: -1,
		MaxRetries: -1, // it is unknown whether a failed attempt was executed
		Protocol:   2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return &Store{
		client: client, opt: o, counterFloor: 1, revocations: newRevocations(), cache: keyCache{ttl: o.Cache},
		health: health{log: o.Log},
		reads:  newReadBatcher(), slots: make(chan struct{}, maxOperations),
	}
}

// Close closes the connections. Later calls return an Error of kind Unavailable.
func (s *Store) Close() error { return s.client.Close() }

// Ready implements domain.Store.
func (s *Store) Ready() error { return s.health.ready() }

// Room implements domain.RoomStore. Revoked keys that have reappeared are left out.
func (s *Store) Room(ctx context.Context, room string) ([]domain.Key, error) {
	_, _, good, err := s.loadRoom(ctx, room)
	return good, err
}

// Rooms implements domain.RoomStore. A room with a foreign value counts, has no keys, and is logged.
func (s *Store) Rooms(ctx context.Context, after string, limit int) ([]domain.Key, error) {
	if limit > 0 {
		keys, _, err := s.page(ctx, after, limit)
		return keys, err
	}
	var all []domain.Key
	for {
		keys, last, err := s.page(ctx, after, roomsPerBatch)
		if err != nil {
			return nil, err
		}
		if last == "" {
			return all, nil
		}
		all, after = append(all, keys...), last
	}
}

// page returns the keys of the first limit rooms after the given one, and the last of these rooms; ""
// if there is none.
func (s *Store) page(ctx context.Context, after string, limit int) (keys []domain.Key, last string, err error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	var names []string
	err = s.do(ctx, func(ctx context.Context) (err error) {
		names, err = s.client.ZRangeByLex(ctx, roomsName,
			&goredis.ZRangeBy{Min: from, Max: "+", Count: int64(limit)}).Result()
		return err
	})
	if err != nil || len(names) == 0 {
		return nil, "", err
	}
	keys, err = s.readRooms(ctx, names)
	return keys, names[len(names)-1], err
}

// FindKey implements domain.RoomStore. While Redis is unavailable, it finds a key that it found
// within the last Options.Cache.
func (s *Store) FindKey(ctx context.Context, digest [32]byte) (domain.Key, bool, error) {
	k, err := s.find(ctx, digest)
	switch {
	case domain.KindOf(err) == domain.Unavailable && ctx.Err() == nil:
		var cached bool
		if k, cached = s.cache.get(digest, time.Now()); !cached {
			return domain.Key{}, false, err
		}
	case err != nil:
		return domain.Key{}, false, err
	default:
		s.cache.put(k, time.Now())
	}
	return k, k.ID != "" && !s.revocations.has(k.Ref()), nil
}

// find returns the key with this digest; a zero Key when there is none.
func (s *Store) find(ctx context.Context, digest [32]byte) (domain.Key, error) {
	room, err := s.lookupIndex(ctx, keyName+hex.EncodeToString(digest[:]))
	if err != nil || room == "" {
		return domain.Key{}, err
	}
	keys, err := s.Room(ctx, room)
	if errors.Is(err, errForeign) {
		return domain.Key{}, nil // the client must not learn more than that the key is invalid
	}
	for _, k := range keys {
		if k.Digest == digest {
			return k, nil
		}
	}
	return domain.Key{}, err
}

// FindRoom implements domain.RoomStore.
func (s *Store) FindRoom(ctx context.Context, id string) (string, error) {
	if id == "" || len(id) > maxID {
		return "", nil
	}
	return s.lookupIndex(ctx, idName+id)
}

// NextGeneration implements domain.RoomStore. Redis may have lost k's last generations, and k may be
// revoked in them.
func (s *Store) NextGeneration(k domain.Key) uint64 {
	return max(k.Generation, s.revocations.generation(k.ID)) + 1
}

// readRooms returns the keys of rooms, in their order. A room with a foreign value is skipped and
// logged.
func (s *Store) readRooms(ctx context.Context, rooms []string) ([]domain.Key, error) {
	values, err := s.readValues(ctx, len(rooms), func(i int) (string, int64) { return roomName + rooms[i], maxRoom })
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
			s.opt.Log.Warn("room skipped", "room", name, "err", err)
			continue
		}
		all = append(all, s.revocations.without(keys)...)
	}
	return all, nil
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

// Consume implements domain.OneTimeTokenStore. If Redis loses the entry, the token is valid again:
// a replica that becomes the master may lack the last writes.
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

// IsConsumed implements domain.OneTimeTokenStore.
func (s *Store) IsConsumed(ctx context.Context, id [16]byte, _ time.Time) (bool, error) {
	known := int64(0)
	err := s.do(ctx, func(ctx context.Context) (err error) {
		known, err = s.client.Exists(ctx, consumedName+hex.EncodeToString(id[:])).Result()
		return err
	})
	return known > 0, err
}

// Update implements domain.RoomStore. change does not see revoked keys that have reappeared; the first
// write removes them.
func (s *Store) Update(ctx context.Context, room string,
	change func([]domain.Key) (domain.RoomChange, error)) error {
	deadline := time.Now().Add(updateTimeout)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := s.tryUpdate(bounded, room, change)
	if err != nil && !time.Now().Before(deadline) && ctx.Err() == nil && s.health.checkUsable() == nil {
		return storeBusy() // the time was spent in queues of this server
	}
	return err
}

func (s *Store) tryUpdate(ctx context.Context, name string,
	change func([]domain.Key) (domain.RoomChange, error)) error {
	for range maxTries {
		value, old, good, err := s.loadRoom(ctx, name)
		if err != nil {
			return err
		}
		c, err := change(slices.Clone(good))
		if err != nil || slices.Equal(c.Keys, old) && len(c.Revoked) == 0 {
			return err
		}
		done, err := s.write(ctx, name, value, old, c)
		if done || err != nil {
			return err
		}
	}
	return domain.Errorf(domain.Unavailable, "too many concurrent changes of room %s", name)
}

// write replaces a room whose value was read as old by c. It reports false when the room has changed
// meanwhile.
func (s *Store) write(ctx context.Context, name, value string, old []domain.Key, c domain.RoomChange) (done bool,
	err error) {
	now := time.Now()
	slices.SortFunc(c.Keys, compareKeys)

	names := []string{roomName + name, roomsName, revokedName}
	listed := "0"
	if len(c.Keys) > 0 {
		listed = "1"
	}
	args := []any{value, encodeRoom(name, c.Keys), name, listed, "",
		strconv.FormatInt(now.Add(-revocationTTL).UnixMilli(), 10)}
	var e revocationEntry
	if len(c.Revoked) > 0 {
		e = newRevocationEntry(name, c)
		args[4] = encodeValue(revokedName, e)
	}
	for _, index := range indexChanges(old, c.Keys) {
		names = append(names, index.name)
		if index.removed {
			args = append(args, "")
		} else {
			args = append(args, encodeValue(index.name, indexValue{name}))
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
		return false, domain.ErrKeyInUse
	case answer == 1 && len(c.Revoked) > 0:
		s.revocations.addOwn(e, now)
	}
	return answer == 1, nil
}

// indexChange is the change of one index entry.
type indexChange struct {
	name    string
	removed bool
}

// indexChanges returns the index entries that differ between two states of a room.
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

// loadRoom returns the value of a room, its keys, and those that are not revoked. A revoked key may
// have reappeared; or the room was read just before this server replaced the key, and has another
// one by now. A second read distinguishes the two: it starts after the revocation was acknowledged.
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

// lookupIndex returns the room that an index entry refers to; "" for none and for foreign values.
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

// do runs one operation, bounded in time, unless Redis is known to be unavailable. While too many
// are in progress it waits for a slot first; the operation's timeout starts after that. The error
// is a domain.Error.
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
	if err := s.health.checkUsable(); err != nil { // it became unavailable during the wait
		return storeUnavailable(err)
	}
	return s.runOp(ctx, op)
}

// acquireSlot acquires a slot, which the caller releases.
func (s *Store) acquireSlot(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-time.After(opTimeout):
		return storeBusy()
	case <-ctx.Done():
		return storeUnavailable(ctx.Err())
	}
}

// runOp runs one operation, even if Redis is marked as unavailable.
func (s *Store) runOp(ctx context.Context, op func(context.Context) error) error {
	// A deadline shorter than opTimeout says nothing about Redis when it passes. The connection may
	// report it before ctx does.
	deadline, ok := ctx.Deadline()
	shortDeadline := ok && time.Until(deadline) < opTimeout
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
		return storeBusy() // caused by this server; Redis was not asked
	case ctx.Err() == nil && !errors.Is(err, goredis.ErrClosed) && !(shortDeadline && isTimeout(err)):
		s.health.markDown(err)
		if c, ok := s.client.(*goredis.ClusterClient); ok {
			c.ReloadState(ctx) // else it would use a dead node for a minute
		}
	}
	return storeUnavailable(err)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// isForeign reports whether err says that a value is foreign.
func isForeign(err error) bool {
	return errors.Is(err, errForeign) || err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") ||
		err != nil && strings.Contains(err.Error(), "WRONGTYPE ") && isReply(err)
}

// isReply reports whether err is the reply of a Redis that is available and refuses this request,
// such as a replica that refuses a write, a Redis without memory, or one that is busy with a
// script.
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

// unavailableError hides its cause from the client's error text.
type unavailableError struct{ cause error }

func (unavailableError) Error() string   { return "key store unavailable" }
func (u unavailableError) Unwrap() error { return u.cause }

// storeUnavailable is the error when Redis is unavailable; the cause is in its chain, for errors.Is
// and the log.
func storeUnavailable(cause error) error {
	return &domain.Error{Kind: domain.Unavailable, Err: unavailableError{cause}}
}
