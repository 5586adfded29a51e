package playout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"sync"
	"time"

	"livego/internal/container/flv"
	"livego/internal/media"
	"livego/internal/proto/rtmp"
	"livego/internal/source"
)

// Options say what to play, and where to.
type Options struct {
	Entries []Entry
	Times   int            // how often the whole list is played; 0: without end
	Start   time.Duration  // where in the list to begin
	Speed   float64        // 1 is real time
	Retry   time.Duration  // how long a lost server is tried for; 0: it is not
	Tracks  TrackSelection // of each file; several of a kind go to servers of Enhanced RTMP only

	// Connect connects to where the stream goes. An error that the server's refusal makes ends the
	// playing at the beginning, and is tried again later on.
	Connect func(ctx context.Context) (Sink, error)

	// Transcode has ffmpeg encode tracks that cannot be carried.
	Transcode bool

	// Told from one goroutine, for which the stream does not wait; nil: nobody is.
	Progress func(Progress) // a few times a second
	Warn     func(string)   // of what is passed over

	durations []time.Duration
}

// A Sink is a server that takes messages.
type Sink interface {
	// Write sends one message. What it refers to is not changed later.
	Write(t flv.Tag) error
	// Multitrack reports whether the server takes several tracks of a kind.
	Multitrack() bool
	// EndStream ends the stream in due form.
	EndStream() error
	Close() error
}

// Progress is where a playing is.
type Progress struct {
	Entry    int           // the file
	Round    int           // of the list, from 0
	At       time.Duration // in the file
	Length   time.Duration // of the file, 0 if unknown
	Sent     time.Duration // of the stream
	Bytes    int64
	Rate     float64 // bit/s, of the last seconds
	Late     time.Duration
	Attempts int // to reach the server again that is lost; 0: it is not
}

// A Result is what a playing came to.
type Result struct {
	Sent       time.Duration
	Bytes      int64
	Frames     int64
	Late       time.Duration // the most that a frame was sent after its time, and
	Early      time.Duration // before it
	Reconnects int
}

const (
	readAhead        = 256 // frames that are read before they are due
	progressInterval = 250 * time.Millisecond
	maxReplayBytes   = 32 << 20 // of frames since the last keyframe, which a new connection begins with
	minBackoff       = 500 * time.Millisecond
	maxBackoff       = 10 * time.Second // between attempts to connect
	maxCatchUp       = 5 * time.Second  // so late is not made up for: the machine slept

	// sendAhead is how much before it is due a frame is sent: whom the machine wakes late is in time
	// still. What is due within together of that goes along, so that there is one wake for a picture
	// and the sound around it.
	sendAhead   = 30 * time.Millisecond
	batchWindow = 15 * time.Millisecond
)

// A LostError tells that the server was lost, and could not be reached again in time.
type LostError struct{ Err error }

func (e *LostError) Error() string { return fmt.Sprintf("the server was lost: %v", e.Err) }
func (e *LostError) Unwrap() error { return e.Err }

// Play plays until the list is over, ctx ends, or it cannot go on. The end of ctx is no error.
// Survey must have been called with o.
func Play(ctx context.Context, o *Options) (Result, error) {
	teller := newReporter(o)
	defer teller.close()
	ctx, cancel := context.WithCancel(ctx)
	items := make(chan item, readAhead)
	q := &byteBudget{released: make(chan struct{}, 1)}
	r := &reader{o: o, out: items, budget: q, warn: teller.warn}
	var done sync.WaitGroup
	var readErr error
	done.Go(func() {
		defer close(items)
		readErr = r.run(ctx)
	})
	s := &sender{o: o, items: items, budget: q, reporter: teller}
	err := s.run(ctx)
	ended := ctx.Err() != nil
	cancel()
	for range items { // it may stand there
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

// A sender sends frames when they are due.
type sender struct {
	o                *Options
	reporter         *reporter
	items            <-chan item
	budget           *byteBudget
	sink             Sink
	preamble         flv.Preamble
	announced        bool      // something was sent over this connection
	clockZero        time.Time // when time 0 of the stream was due
	replay           []item    // since the last keyframe
	replaySize       int       // bytes of replay
	result           Result
	newestDTS        time.Duration
	reportedAt       time.Time
	rates            meter
	last             item
	warnedMultitrack bool // it has been told that only first tracks go
}

// run sends all items, and says goodbye.
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
	sleep(ctx, time.Until(s.clockZero.Add(s.scaled(s.newestDTS+s.last.duration())))) // until the last frame has been shown
	s.reportProgress(0)
	return s.sink.EndStream()
}

// setSink takes a new connection.
func (s *sender) setSink(sink Sink) {
	s.sink, s.preamble = sink, flv.Preamble{Dialect: flv.Dialect{Multitrack: sink.Multitrack()}}
}

// duration returns how long a frame is shown, 0 if there is none.
func (it item) duration() time.Duration {
	if it.f == nil {
		return 0
	}
	return min(it.f.Duration, time.Second)
}

// startClock lays the clock so that it is sent now.
func (s *sender) startClock(it item) { s.clockZero = time.Now().Add(sendAhead - s.scaled(it.f.DTS)) }

// scaled converts a time of the stream to one of the clock.
func (s *sender) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) / s.o.Speed) }

// send sends one item when it is due, over a new connection where the old one is lost.
func (s *sender) send(ctx context.Context, it item) error {
	if it.f.Track.ID != 0 && !s.preamble.Dialect.Multitrack {
		if !s.warnedMultitrack {
			s.warnedMultitrack = true
			s.reporter.warn("the server takes one track of a kind (no multitrack of Enhanced RTMP): the others stay")
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

// addReplay remembers what a new connection would have to begin with.
func (s *sender) addReplay(it item) {
	fresh := it.f.Track.Kind == media.Video && it.f.Track.ID == 0 && it.f.RAP != media.NoRandomAccess
	alone := it.f.Meta != nil && !it.f.Meta.HasVideo
	if fresh || alone || s.replaySize > maxReplayBytes {
		s.replay, s.replaySize = s.replay[:0], 0
	}
	s.replay = append(s.replay, it)
	s.replaySize += len(it.f.Payload)
}

// write waits until it is time for it, and sends it.
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

// tags returns the messages of a frame, with the headers that must precede it.
func (s *sender) tags(it item) []flv.Tag {
	f := it.f
	tags := s.preamble.Append(nil, f, s.initialTracks(it))
	tag := bytes.Join(s.preamble.Dialect.EncodeTag(f), nil)
	return append(tags, flv.Tag{Type: flv.MessageType(f.Track.Kind), Timestamp: flv.Timestamp(f),
		Body: tag[tagHeader : len(tag)-tagTail]})
}

// initialTracks returns the tracks that a connection begins with, nil later.
func (s *sender) initialTracks(it item) []*media.Track {
	if s.announced {
		return nil
	}
	s.announced = true
	return slices.DeleteFunc(slices.Clone(it.tracks),
		func(t *media.Track) bool { return t.ID != 0 && !s.preamble.Dialect.Multitrack })
}

// What stands around the body in a tag: type, length, time and stream before it, its length behind.
const (
	tagHeader = 11
	tagTail   = 4
)

// reportProgress tells the progress, and which attempt to reach a lost server comes now.
func (s *sender) reportProgress(attempts int) {
	s.reportedAt = time.Now()
	p := Progress{
		Entry: s.last.entry, Round: s.last.round, At: s.last.at, Sent: s.newestDTS, Bytes: s.result.Bytes,
		Rate:   s.rates.rate(time.Now()),
		Length: s.o.durations[s.last.entry], Attempts: attempts,
	}
	if attempts == 0 {
		p.Late = max(0, time.Since(s.clockZero.Add(s.scaled(s.newestDTS))))
	}
	s.reporter.update(p)
}

// reconnect opens a new connection, and sends on it what has been sent since the last keyframe, so
// that viewers miss nothing.
func (s *sender) reconnect(ctx context.Context, why error) error {
	s.sink.Close()
	if s.o.Retry == 0 {
		return &LostError{why}
	}
	s.reporter.warn(fmt.Sprintf("the server was lost: %v", why))
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

// sendReplay sends what a new connection has to begin with, from now on in real time.
func (s *sender) sendReplay(ctx context.Context) error {
	s.startClock(s.replay[0])
	for _, it := range s.replay {
		if err := s.write(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits for d, or until ctx ends, which it reports by false.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A meter measures a bit rate over some seconds.
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

// rate returns bit/s of the seconds that are complete.
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
	err  error // after done: why the server ended it
}

// Publish connects to an rtmp or rtmps address and begins to publish.
func Publish(ctx context.Context, address string) (Sink, error) {
	const patience = 15 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
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
	go func() { // what the server says has to be read; Close ends it
		defer close(s.done)
		for s.err == nil {
			_, s.err = c.ReadMessage()
		}
	}()
	return s, nil
}

// connectError says which server could not be reached, without what is secret in its address.
func connectError(address string, err error) error {
	u, parseErr := url.Parse(address)
	if parseErr != nil || errors.Is(err, rtmp.ErrInvalidAddress) {
		return err
	}
	return fmt.Errorf("%s://%s cannot be reached: %w", u.Scheme, u.Host, err)
}

func (s *rtmpSink) Write(t flv.Tag) error {
	select {
	case <-s.done: // it said why, or hung up
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

// reason returns what the server said where it said something.
func (s *rtmpSink) reason(err error) error {
	if status, ok := errors.AsType[*rtmp.StatusError](s.err); ok {
		return status
	}
	if s.err == io.EOF || errors.Is(s.err, io.ErrUnexpectedEOF) {
		return errors.New("it closed the connection")
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
