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
	"livego/internal/rtmp"
	"livego/internal/source"
)

// Options say what to play, and where to.
type Options struct {
	Entries []Entry
	Times   int           // how often the whole list is played; 0: without end
	Start   time.Duration // where in the list to begin
	Speed   float64       // 1 is real time
	Retry   time.Duration // how long a lost server is tried for; 0: it is not
	Tracks  Choice        // of each file; several of a kind go to servers of Enhanced RTMP only

	// Connect connects to where the stream goes. An error that the server's refusal makes ends the playing at the beginning, and is
	// tried again later on.
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
	// Goodbye ends the stream in due form.
	Goodbye() error
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
	ahead        = 256 // frames that are read before they are due
	progressEach = 250 * time.Millisecond
	replayBytes  = 32 << 20 // of frames since the last keyframe, which a new connection begins with
	giveInFirst  = 500 * time.Millisecond
	giveInMost   = 10 * time.Second // between attempts to connect
	slump        = 5 * time.Second  // so late is not made up for: the machine slept

	// early is how much before it is due a frame is sent: whom the machine wakes late is in time still. What is due within together of
	// that goes along, so that there is one wake for a picture and the sound around it.
	early    = 30 * time.Millisecond
	together = 15 * time.Millisecond
)

// A LostError tells that the server was lost, and could not be reached again in time.
type LostError struct{ Err error }

func (e *LostError) Error() string { return fmt.Sprintf("the server was lost: %v", e.Err) }
func (e *LostError) Unwrap() error { return e.Err }

// Play plays until the list is over, ctx ends, or it cannot go on. The end of ctx is no error. Survey must have been called with o.
func Play(ctx context.Context, o *Options) (Result, error) {
	teller := newTeller(o)
	defer teller.end()
	ctx, cancel := context.WithCancel(ctx)
	items := make(chan item, ahead)
	q := &queue{freed: make(chan struct{}, 1)}
	r := &reader{o: o, out: items, queue: q, warn: teller.warn}
	var done sync.WaitGroup
	var readErr error
	done.Go(func() {
		defer close(items)
		readErr = r.run(ctx)
	})
	s := &sender{o: o, items: items, queue: q, teller: teller}
	err := s.run(ctx)
	ended := ctx.Err() != nil
	cancel()
	for range items { // it may stand there
	}
	done.Wait()
	s.result.Sent = s.newest
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
	o      *Options
	teller *teller
	items  <-chan item
	queue  *queue
	sink   Sink
	head   flv.Preamble
	begun  bool      // something was sent over this connection
	begin  time.Time // when time 0 of the stream was due
	replay []item    // since the last keyframe
	kept   int       // bytes of replay
	result Result
	newest time.Duration
	told   time.Time
	rates  meter
	at     item
	alone  bool // it has been told that only first tracks go
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
	s.use(sink)
	defer func() { s.sink.Close() }()
	s.start(first)
	for it, ok := first, true; ok; it, ok = <-s.items {
		s.queue.free(len(it.f.Payload))
		if err := s.send(ctx, it); err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
	}
	wait(ctx, time.Until(s.begin.Add(s.scaled(s.newest+s.at.length())))) // until the last frame has been shown
	s.tell(0)
	return s.sink.Goodbye()
}

// use takes a new connection.
func (s *sender) use(sink Sink) {
	s.sink, s.head = sink, flv.Preamble{Dialect: flv.Dialect{Tracks: sink.Multitrack()}}
}

// length returns how long a frame is shown, 0 if there is none.
func (it item) length() time.Duration {
	if it.f == nil {
		return 0
	}
	return min(it.f.Duration, time.Second)
}

// start lays the clock so that it is sent now.
func (s *sender) start(it item) { s.begin = time.Now().Add(early - s.scaled(it.f.DTS)) }

// scaled converts a time of the stream to one of the clock.
func (s *sender) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) / s.o.Speed) }

// send sends one item when it is due, over a new connection where the old one is lost.
func (s *sender) send(ctx context.Context, it item) error {
	if it.f.Track.ID != 0 && !s.head.Dialect.Tracks {
		if !s.alone {
			s.alone = true
			s.teller.warn("the server takes one track of a kind (no multitrack of Enhanced RTMP): the others stay")
		}
		return ctx.Err()
	}
	s.keep(it)
	err := s.write(ctx, it)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return s.reconnect(ctx, err)
}

// keep remembers what a new connection would have to begin with.
func (s *sender) keep(it item) {
	fresh := it.f.Track.Kind == media.Video && it.f.Track.ID == 0 && it.f.RAP != media.NoAccess
	alone := it.f.Meta != nil && !it.f.Meta.HasVideo
	if fresh || alone || s.kept > replayBytes {
		s.replay, s.kept = s.replay[:0], 0
	}
	s.replay = append(s.replay, it)
	s.kept += len(it.f.Payload)
}

// write waits until it is time for it, and sends it.
func (s *sender) write(ctx context.Context, it item) error {
	due := s.begin.Add(s.scaled(it.f.DTS))
	if ahead := time.Until(due); ahead > early+together && !wait(ctx, ahead-early) {
		return ctx.Err()
	}
	late := time.Since(due)
	if late > slump {
		s.begin = s.begin.Add(late)
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
	s.newest, s.at = max(s.newest, it.f.DTS), it
	if time.Since(s.told) >= progressEach {
		s.tell(0)
	}
	return nil
}

// tags returns the messages of a frame, with the headers that must precede it.
func (s *sender) tags(it item) []flv.Tag {
	f := it.f
	tags := s.head.Before(nil, f, s.announce(it))
	tag := bytes.Join(s.head.Dialect.EncodeTag(f), nil)
	return append(tags, flv.Tag{Type: flv.MessageType(f.Track.Kind), Timestamp: flv.Timestamp(f), Body: tag[tagHeader : len(tag)-tagTail]})
}

// announce returns the tracks that a connection begins with, nil later.
func (s *sender) announce(it item) []*media.Track {
	if s.begun {
		return nil
	}
	s.begun = true
	return slices.DeleteFunc(slices.Clone(it.tracks), func(t *media.Track) bool { return t.ID != 0 && !s.head.Dialect.Tracks })
}

// What stands around the body in a tag: type, length, time and stream before it, its length behind.
const (
	tagHeader = 11
	tagTail   = 4
)

// tell tells the progress, and which attempt to reach a lost server comes now.
func (s *sender) tell(attempts int) {
	s.told = time.Now()
	p := Progress{
		Entry: s.at.entry, Round: s.at.round, At: s.at.at, Sent: s.newest, Bytes: s.result.Bytes, Rate: s.rates.rate(time.Now()),
		Length: s.o.durations[s.at.entry], Attempts: attempts,
	}
	if attempts == 0 {
		p.Late = max(0, time.Since(s.begin.Add(s.scaled(s.newest))))
	}
	s.teller.update(p)
}

// reconnect opens a new connection, and sends on it what has been sent since the last keyframe, so that viewers miss nothing.
func (s *sender) reconnect(ctx context.Context, why error) error {
	s.sink.Close()
	if s.o.Retry == 0 {
		return &LostError{why}
	}
	s.teller.warn(fmt.Sprintf("the server was lost: %v", why))
	until, pause := time.Now().Add(s.o.Retry), giveInFirst
	for attempt := 1; !time.Now().After(until); attempt++ {
		s.tell(attempt)
		if !wait(ctx, pause) {
			return ctx.Err()
		}
		pause = min(2*pause, giveInMost)
		sink, err := s.o.Connect(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			why = err
			continue
		}
		s.use(sink)
		s.result.Reconnects++
		if err = s.again(ctx); err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		why = err
		sink.Close()
	}
	return &LostError{why}
}

// again sends what a new connection has to begin with, from now on in real time.
func (s *sender) again(ctx context.Context) error {
	s.start(s.replay[0])
	for _, it := range s.replay {
		if err := s.write(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for d, or until ctx ends, which it reports by false.
func wait(ctx context.Context, d time.Duration) bool {
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
	m.turn(now.Unix())
	m.slots[m.now%int64(len(m.slots))] += int64(n)
}

func (m *meter) turn(second int64) {
	for ; m.now < second; m.now++ {
		if second-m.now > int64(len(m.slots)) {
			m.now = second - int64(len(m.slots))
		}
		m.slots[(m.now+1)%int64(len(m.slots))] = 0
	}
}

// rate returns bit/s of the seconds that are complete.
func (m *meter) rate(now time.Time) float64 {
	m.turn(now.Unix())
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
		return nil, unreached(address, err)
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

// unreached says which server could not be reached, without what is secret in its address.
func unreached(address string, err error) error {
	u, parseErr := url.Parse(address)
	if parseErr != nil || errors.Is(err, rtmp.ErrAddress) {
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

func (s *rtmpSink) Goodbye() error { return s.c.Goodbye() }

func (s *rtmpSink) Close() error {
	err := s.c.Close()
	<-s.done
	return err
}
