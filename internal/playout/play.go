package playout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"livego/internal/container/flv"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
	"livego/internal/source"
)

// Options say what to publish, and where to.
type Options struct {
	Entries []Entry
	Times   int            // how often the list is played; 0: endlessly
	Start   time.Duration  // position in the list at which to start
	Speed   float64        // 1 is real time
	Retry   time.Duration  // how long to retry after the server was lost; 0: not at all
	Tracks  TrackSelection // tracks of each file; several of a kind need Enhanced RTMP

	// Connect opens a connection to the server. Its error ends Play if it is the first
	// connection, else Play retries.
	Connect func(ctx context.Context) (Sink, error)

	// Transcode lets ffmpeg encode tracks that RTMP does not support.
	Transcode bool

	// Callbacks, called from one goroutine that the stream does not wait for. Either may be nil.
	Progress func(Progress) // a few times per second
	Warn     func(string)   // about skipped input

	durations []time.Duration
}

// A Sink is a connection to a server that receives the stream.
type Sink interface {
	// Write sends one message. The caller does not change the message's memory later.
	Write(t flv.Tag) error
	// Multitrack reports whether the server supports several tracks of a kind.
	Multitrack() bool
	// EndStream tells the server that the stream has ended.
	EndStream() error
	Close() error
}

// Progress is the position of a running Play.
type Progress struct {
	Entry    int           // index of the file in Options.Entries
	Round    int           // of the list, counted from 0
	At       time.Duration // position in the file
	Length   time.Duration // length of the file, 0 if unknown
	Rate     float64       // bit/s, over the last seconds
	Late     time.Duration
	Attempts int // attempts to reconnect to a lost server; 0: it is connected
}

// A Result is the summary of a finished Play.
type Result struct {
	Sent       time.Duration
	Bytes      int64
	Frames     int64
	Late       time.Duration // the most that a frame was sent after its time, and
	Early      time.Duration // before its time
	Reconnects int
}

const (
	readAhead        = 256 // frames that are read ahead
	progressInterval = 250 * time.Millisecond
	maxReplayBytes   = 32 << 20 // bytes of frames since the last keyframe, which a new connection starts with
	minBackoff       = 500 * time.Millisecond
	maxBackoff       = 10 * time.Second // between attempts to connect
	maxCatchUp       = 5 * time.Second  // a longer delay is not caught up: the machine was suspended

	// sendAhead is how long before its time a frame is sent, so that a late wake-up of the
	// process does not delay it. Frames that are due within batchWindow after it are sent with
	// it, so that one wake-up serves a picture and the audio around it.
	sendAhead   = 30 * time.Millisecond
	batchWindow = 15 * time.Millisecond
)

// A LostError is returned when the server was lost and could not be reached again within
// Options.Retry.
type LostError struct{ Err error }

func (e *LostError) Error() string { return fmt.Sprintf("connection to the server lost: %v", e.Err) }
func (e *LostError) Unwrap() error { return e.Err }

// Play publishes until the list ends, ctx ends, or an error ends it. The end of ctx is not an
// error. Preflight must have been called with o.
func Play(ctx context.Context, o *Options) (Result, error) {
	rep := newReporter(o)
	defer rep.close()
	ctx, cancel := context.WithCancel(ctx)
	items := make(chan item, readAhead)
	q := &byteBudget{released: make(chan struct{}, 1)}
	r := &reader{o: o, out: items, budget: q, warn: rep.warn, lastTracks: new(media.Program)}
	var done sync.WaitGroup
	var readErr error
	done.Go(func() {
		defer close(items)
		readErr = r.run(ctx)
	})
	s := &sender{o: o, items: items, budget: q, reporter: rep}
	err := s.run(ctx)
	ended := ctx.Err() != nil
	cancel()
	for range items { // unblock the reader
	}
	done.Wait()
	s.result.Sent = s.newestDTS
	switch {
	case err != nil:
		return s.result, err
	case ended:
		return s.result, nil
	}
	return s.result, readErr
}

// A sender sends frames at their time.
type sender struct {
	o                *Options
	reporter         *reporter
	items            <-chan item
	budget           *byteBudget
	sink             Sink
	preamble         flv.Preamble
	clockZero        time.Time // when time 0 of the stream is due
	replay           []item    // items since the last keyframe
	replaySize       int       // bytes in replay
	result           Result
	newestDTS        time.Duration
	reportedAt       time.Time
	rates            meter
	last             item
	warnedMultitrack bool // the user was warned that only the first track of a kind is sent
}

// run sends all items and ends the stream.
func (s *sender) run(ctx context.Context) error {
	first, ok := <-s.items
	if !ok {
		return nil
	}
	sink, err := s.o.Connect(ctx)
	if err != nil {
		return err
	}
	s.setSink(sink)
	defer func() { s.sink.Close() }()
	s.startClock(first)
	for it, ok := first, true; ok; it, ok = <-s.items {
		s.budget.release(len(it.f.Payload))
		if err := s.send(ctx, it); err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
	}
	// until the last frame has been displayed
	sleep(ctx, time.Until(s.clockZero.Add(s.scaled(s.newestDTS+s.last.duration()))))
	s.reportProgress(0)
	return s.sink.EndStream()
}

// setSink switches to a new connection.
func (s *sender) setSink(sink Sink) {
	s.sink, s.preamble = sink, flv.Preamble{Dialect: flv.Dialect{Multitrack: sink.Multitrack()}}
}

// duration returns how long a frame is displayed, 0 without a frame.
func (it item) duration() time.Duration {
	if it.f == nil {
		return 0
	}
	return min(it.f.Duration, time.Second)
}

// startClock sets the clock so that item it is due now.
func (s *sender) startClock(it item) { s.clockZero = time.Now().Add(sendAhead - s.scaled(it.f.DTS)) }

// scaled converts a duration of the stream to one of the clock.
func (s *sender) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) / s.o.Speed) }

// send sends one item when it is due. It reconnects if the connection is lost.
func (s *sender) send(ctx context.Context, it item) error {
	if it.f.Track.ID != 0 && !s.preamble.Dialect.Multitrack {
		if !s.warnedMultitrack {
			s.warnedMultitrack = true
			s.reporter.warn("the server does not support multitrack Enhanced RTMP: only the first track of each kind is sent")
		}
		return ctx.Err()
	}
	s.addReplay(it)
	err := s.write(ctx, it)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return s.reconnect(ctx, err)
}

// addReplay stores an item that a new connection would have to start with.
func (s *sender) addReplay(it item) {
	fresh := it.f.Track.Kind == media.Video && it.f.Track.ID == 0 && it.f.RAP != media.NoRandomAccess
	alone := it.f.Meta != nil && !it.f.Meta.HasVideo
	if fresh || alone || s.replaySize > maxReplayBytes {
		s.replay, s.replaySize = s.replay[:0], 0
	}
	s.replay = append(s.replay, it)
	s.replaySize += len(it.f.Payload)
}

// write waits until the item is due, and sends it.
func (s *sender) write(ctx context.Context, it item) error {
	due := s.clockZero.Add(s.scaled(it.f.DTS))
	if ahead := time.Until(due); ahead > sendAhead+batchWindow && !sleep(ctx, ahead-sendAhead) {
		return ctx.Err()
	}
	late := time.Since(due)
	if late > maxCatchUp {
		s.clockZero = s.clockZero.Add(late)
		late = 0
	}
	s.result.Late, s.result.Early = max(s.result.Late, late), max(s.result.Early, -late)
	for _, t := range s.tags(it) {
		if err := s.sink.Write(t); err != nil {
			return err
		}
		s.result.Bytes += int64(len(t.Body))
		s.rates.add(time.Now(), len(t.Body))
	}
	s.result.Frames++
	s.newestDTS, s.last = max(s.newestDTS, it.f.DTS), it
	if time.Since(s.reportedAt) >= progressInterval {
		s.reportProgress(0)
	}
	return nil
}

// tags returns the messages of a frame, including the headers that must precede it.
func (s *sender) tags(it item) []flv.Tag {
	f := it.f
	tags := s.preamble.Append(nil, f, f.Program)
	tag := bytes.Join(s.preamble.Dialect.EncodeTag(f), nil)
	return append(tags, flv.Tag{Type: flv.MessageType(f.Track.Kind), Timestamp: flv.Timestamp(f),
		Body: tag[tagHeader : len(tag)-tagTail]})
}

// Sizes of what surrounds a body in a tag: type, length, timestamp and stream ID before it, and
// the tag's length after it.
const (
	tagHeader = 11
	tagTail   = 4
)

// reportProgress reports the progress, and the number of the current attempt to reconnect.
func (s *sender) reportProgress(attempts int) {
	s.reportedAt = time.Now()
	p := Progress{
		Entry: s.last.entry, Round: s.last.round, At: s.last.at, Length: s.o.durations[s.last.entry],
		Rate: s.rates.rate(time.Now()), Attempts: attempts,
	}
	if attempts == 0 {
		p.Late = max(0, time.Since(s.clockZero.Add(s.scaled(s.newestDTS))))
	}
	s.reporter.update(p)
}

// reconnect opens a new connection and sends what was sent since the last keyframe, so that
// viewers miss nothing.
func (s *sender) reconnect(ctx context.Context, why error) error {
	s.sink.Close()
	if s.o.Retry == 0 {
		return &LostError{why}
	}
	s.reporter.warn(fmt.Sprintf("connection to the server lost: %v", why))
	until, pause := time.Now().Add(s.o.Retry), minBackoff
	for attempt := 1; !time.Now().After(until); attempt++ {
		s.reportProgress(attempt)
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		pause = min(2*pause, maxBackoff)
		sink, err := s.o.Connect(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			why = err
			continue
		}
		s.setSink(sink)
		s.result.Reconnects++
		if err = s.sendReplay(ctx); err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		why = err
		sink.Close()
	}
	return &LostError{why}
}

// sendReplay sends the stored items on a new connection, from now on in real time.
func (s *sender) sendReplay(ctx context.Context) error {
	s.startClock(s.replay[0])
	for _, it := range s.replay {
		if err := s.write(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits for d. It returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// A meter measures a bit rate over the last seconds.
type meter struct {
	slots [4]int64 // bytes, by second
	now   int64    // second of the newest slot
}

func (m *meter) add(now time.Time, n int) {
	m.advance(now.Unix())
	m.slots[m.now%int64(len(m.slots))] += int64(n)
}

func (m *meter) advance(second int64) {
	for ; m.now < second; m.now++ {
		if second-m.now > int64(len(m.slots)) {
			m.now = second - int64(len(m.slots))
		}
		m.slots[(m.now+1)%int64(len(m.slots))] = 0
	}
}

// rate returns the bit/s of the complete seconds.
func (m *meter) rate(now time.Time) float64 {
	m.advance(now.Unix())
	var sum int64
	for i, n := range m.slots {
		if int64(i) != m.now%int64(len(m.slots)) {
			sum += n
		}
	}
	return float64(sum) * 8 / float64(len(m.slots)-1)
}

// An rtmpSink publishes to an RTMP server.
type rtmpSink struct {
	c    *rtmp.ClientConn
	done chan struct{}
	err  error // valid after done: why the server closed the connection
}

// Publish connects to an rtmp or rtmps URL and starts to publish. The server's reply must come
// within 15 s.
func Publish(ctx context.Context, address string) (Sink, error) {
	const timeout = 15 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, app, name, tcURL, err := source.Connect(ctx, address)
	if err != nil {
		return nil, connectError(address, err)
	}
	c := rtmp.NewClientConn(nc, rtmp.Options{})
	if err = c.Connect(ctx, app, tcURL); err == nil {
		err = c.Publish(ctx, name)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	s := &rtmpSink{c: c, done: make(chan struct{})}
	go func() { // the server's messages must be read; Close ends the goroutine
		defer close(s.done)
		for s.err == nil {
			_, s.err = c.ReadMessage()
		}
	}()
	return s, nil
}

// connectError names the server that cannot be reached, without the secret parts of its address.
func connectError(address string, err error) error {
	u, parseErr := url.Parse(address)
	if parseErr != nil || errors.Is(err, rtmp.ErrInvalidAddress) {
		return err
	}
	return fmt.Errorf("cannot connect to %s://%s: %w", u.Scheme, u.Host, err)
}

func (s *rtmpSink) Write(t flv.Tag) error {
	select {
	case <-s.done: // the server sent a status or closed the connection
		return s.reason(io.ErrClosedPipe)
	default:
	}
	err := s.c.WriteMessage(rtmp.Message{Type: t.Type, Timestamp: t.Timestamp, Payload: t.Body})
	if err != nil {
		s.c.Close()
		<-s.done
		return s.reason(err)
	}
	return nil
}

// reason returns the server's status if it sent one, else err.
func (s *rtmpSink) reason(err error) error {
	if status, ok := errors.AsType[*rtmp.StatusError](s.err); ok {
		return status
	}
	if s.err == io.EOF || errors.Is(s.err, io.ErrUnexpectedEOF) {
		return errors.New("the server closed the connection")
	}
	if err == io.ErrClosedPipe {
		return s.err
	}
	return err
}

func (s *rtmpSink) Multitrack() bool { return s.c.Caps()&rtmp.CapsMultitrack != 0 }

func (s *rtmpSink) EndStream() error { return s.c.EndStream() }

func (s *rtmpSink) Close() error {
	err := s.c.Close()
	<-s.done
	return err
}
