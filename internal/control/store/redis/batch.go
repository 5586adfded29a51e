package redis

import (
	"context"
	"errors"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"livego/internal/domain"
)

const (
	// maxBatches is how many batches of reads are under way at a time: a quarter of the connections.
	maxBatches = poolSize / 4
	// maxBatch is how many values one batch reads. With 40 ms to Redis that is 12,800 values a second.
	maxBatch = 128
	// maxWaitingReads bounds the reads that wait: what goes in two seconds at that rate.
	maxWaitingReads = 2 * 12_800
)

// readBatcher joins readBatcher of single values: one request to Redis readBatcher every value that
// is waited for. So a flood of wrong keys costs a few connections, not one for each key, and one
// value is read once for all who ask for it at the same time. Nothing is remembered from one batch
// to the next: a key that any server makes is good for whoever asks after that.
type readBatcher struct {
	sending chan struct{} // a slot for each batch under way

	mu      sync.Mutex
	waiting []*pendingRead
	byName  map[string]*pendingRead // those in waiting
}

// A pendingRead is one value that is pendingRead, for everybody who asks for it.
type pendingRead struct {
	name    string
	limit   int64         // bytes of it
	waiters int           // guarded by reads.mu; 0: nobody waits any more
	done    chan struct{} // closed when value and err are set
	value   string        // "" when there is none
	err     error
}

func newReadBatcher() readBatcher {
	return readBatcher{sending: make(chan struct{}, maxBatches), byName: map[string]*pendingRead{}}
}

// readValue returns what stands under name, at most limit bytes of it; "" when nothing does. All
// who read one name have one limit.
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

// join returns the read of name that has not been sent yet; nil when too many wait. The caller must leave it.
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

// batch returns the reads to send next, without those that everybody has left.
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

// sendBatch reads a batch and answers everybody who waits for it. ctx is that of one of them, whose
// end does not count here: the operation has its own limit.
func (s *Store) sendBatch(ctx context.Context, batch []*pendingRead) {
	if len(batch) == 0 {
		return
	}
	values := make([]*goredis.StringCmd, len(batch))
	err := s.do(context.WithoutCancel(ctx), func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i, r := range batch {
			values[i] = pipe.GetRange(ctx, r.name, 0, r.limit)
		}
		_, _ = pipe.Exec(ctx) // its error is the first of theirs
		for _, v := range values {
			if err := v.Err(); err != nil && !isForeign(err) {
				return err
			}
		}
		return nil
	})
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

var errBusy = errors.New("key store busy: too many requests at once")

// storeBusy says that this server asks too much at once. Redis itself is well: another try may work.
func storeBusy() error { return &domain.Error{Kind: domain.Limit, Err: errBusy} }
