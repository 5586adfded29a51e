package redis

import (
	"context"
	"errors"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"livego/internal/domain"
)

const (
	// maxBatches is the number of concurrent batches: a quarter of the connections.
	maxBatches = poolSize / 4
	// maxBatch is the number of values in one batch. With a round trip of 40 ms that is 12,800
	// values a second.
	maxBatch = 128
	// maxWaitingReads bounds the waiting reads: two seconds of work at that rate.
	maxWaitingReads = 2 * 12_800
)

// readBatcher combines reads of single values: one request to Redis reads every value that callers
// wait for. A flood of wrong keys costs a few connections, not one for each key, and a value is
// read once for all concurrent callers. Nothing is cached between batches: a key that any server
// creates is valid for every later caller.
type readBatcher struct {
	sending chan struct{} // a slot for each batch in progress

	mu      sync.Mutex
	waiting []*pendingRead
	byName  map[string]*pendingRead // the reads in waiting
}

// A pendingRead is the read of one value, for all callers that wait for it.
type pendingRead struct {
	name    string
	limit   int64         // bytes
	waiters int           // guarded by readBatcher.mu; 0: every caller has left
	done    chan struct{} // closed when value and err are set
	value   string        // "" when there is none
	err     error
}

func newReadBatcher() readBatcher {
	return readBatcher{sending: make(chan struct{}, maxBatches), byName: map[string]*pendingRead{}}
}

// readValue returns the value under name, at most limit bytes of it; "" when there is none. All
// readers of one name must use the same limit.
func (s *Store) readValue(ctx context.Context, name string, limit int64) (string, error) {
	r := s.reads.join(name, limit)
	if r == nil {
		return "", storeBusy()
	}
	defer s.reads.leave(r)
	for {
		select {
		case <-r.done:
			return r.value, r.err
		default:
		}
		select {
		case <-r.done:
			return r.value, r.err
		case <-ctx.Done():
			return "", storeUnavailable(ctx.Err())
		case s.reads.sending <- struct{}{}:
			s.sendBatch(ctx, s.reads.batch())
			<-s.reads.sending
		}
	}
}

// join returns the unsent read of name; nil when too many reads wait. The caller must call leave.
func (q *readBatcher) join(name string, limit int64) *pendingRead {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.byName[name]
	if r == nil {
		if len(q.waiting) >= maxWaitingReads {
			return nil
		}
		r = &pendingRead{name: name, limit: limit, done: make(chan struct{})}
		q.waiting = append(q.waiting, r)
		q.byName[name] = r
	}
	r.waiters++
	return r
}

func (q *readBatcher) leave(r *pendingRead) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.waiters--
}

// batch returns the next reads to send, without those that every caller has left.
func (q *readBatcher) batch() []*pendingRead {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []*pendingRead
	n := 0
	for ; n < len(q.waiting) && len(batch) < maxBatch; n++ {
		r := q.waiting[n]
		delete(q.byName, r.name)
		if r.waiters > 0 {
			batch = append(batch, r)
		}
	}
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	return batch
}

// sendBatch reads a batch and wakes all callers that wait for it. ctx belongs to one of them, so
// its end is ignored: the operation has its own timeout.
func (s *Store) sendBatch(ctx context.Context, batch []*pendingRead) {
	if len(batch) == 0 {
		return
	}
	values, err := s.readValues(context.WithoutCancel(ctx), len(batch),
		func(i int) (string, int64) { return batch[i].name, batch[i].limit })
	for i, r := range batch {
		switch {
		case err != nil:
			r.err = err
		case values[i].Err() != nil:
			r.err = &domain.Error{Op: "key store", Err: errForeign}
		default:
			r.value = values[i].Val()
		}
		close(r.done)
	}
}

// readValues reads n values by one request: at returns the name of each, and how many bytes of it are
// read at most. A value may be foreign, as its error says.
func (s *Store) readValues(ctx context.Context, n int,
	at func(i int) (name string, limit int64)) ([]*goredis.StringCmd, error) {
	values := make([]*goredis.StringCmd, n)
	err := s.do(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i := range values {
			name, limit := at(i)
			values[i] = pipe.GetRange(ctx, name, 0, limit)
		}
		_, _ = pipe.Exec(ctx) // its error is the first of the commands' errors
		for _, v := range values {
			if err := v.Err(); err != nil && !isForeign(err) {
				return err
			}
		}
		return nil
	})
	return values, err
}

var errBusy = errors.New("key store busy: too many requests at once")

// storeBusy is the error when this server has too many requests in progress. Redis itself is
// available: a retry may succeed.
func storeBusy() error { return &domain.Error{Kind: domain.Limit, Err: errBusy} }
