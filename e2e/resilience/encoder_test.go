package resilience

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// A clip is a sample, ready to be sent.
type clip struct {
	headers []mediacompare.FLVTag
	items   []item
}

// An item is a frame of a clip.
type item struct {
	tag     mediacompare.FLVTag
	unit    mediacompare.Unit // as RTMP and FLV carry it
	decoded mediacompare.Unit // as a decoder gets it
}

// loadClip reads a sample.
func loadClip(t testing.TB, s sample.Sample) *clip {
	t.Helper()
	file := s.Read(t)
	packets, err := file.Packets()
	if err != nil {
		t.Fatal(err)
	}
	units, err := file.DecoderUnits()
	if err != nil {
		t.Fatal(err)
	}
	c := new(clip)
	for _, tag := range file.Tags {
		switch {
		case tag.IsHeader():
			c.headers = append(c.headers, tag)
		case tag.IsFrame():
			n := len(c.items)
			c.items = append(c.items, item{tag, packets[n], units[n]})
		}
	}
	return c
}

// of returns the frames of one kind.
func (c *clip) of(k mediacompare.Kind) *clip {
	typ := byte(mediacompare.TagAudio)
	if k == mediacompare.Video {
		typ = mediacompare.TagVideo
	}
	return &clip{
		slices.DeleteFunc(slices.Clone(c.headers), func(t mediacompare.FLVTag) bool { return t.Type != typ }),
		slices.DeleteFunc(slices.Clone(c.items), func(it item) bool { return it.tag.Type != typ }),
	}
}

// with returns c merged with other.
func (c *clip) with(other *clip) *clip {
	m := &clip{slices.Concat(c.headers, other.headers), slices.Concat(c.items, other.items)}
	slices.SortStableFunc(m.items, func(a, b item) int { return int(a.tag.Time) - int(b.tag.Time) })
	return m
}

// without returns c without the items that f reports.
func (c *clip) without(f func(item) bool) *clip {
	return &clip{c.headers, slices.DeleteFunc(slices.Clone(c.items), f)}
}

// from returns c from the first keyframe at or after a time on.
func (c *clip) from(at time.Duration) *clip {
	first := slices.IndexFunc(c.items, func(it item) bool { return isKey(it) && it.unit.DTS >= at })
	return &clip{c.headers, c.items[first:]}
}

func isKey(it item) bool { return it.unit.Kind == mediacompare.Video && it.unit.Key }

// An encoder sends a clip to a room in real time, repeatedly, until it is stopped.
type encoder struct {
	sc *scenario
	c  *rtmp.Conn

	commands chan func() // run between two frames
	quit     chan struct{}
	done     chan struct{} // closed when nothing more is sent
	closed   chan struct{} // closed when the server has closed the connection

	// The sending goroutine owns the rest.
	clip          *clip
	next          int
	base          int64 // time of the clip's first frame in ms
	began         time.Time
	timestamp     func(ms int64) int64 // maps a time to the timestamp that is sent; nil: unchanged
	repeatHeaders bool                 // send codec headers before each keyframe
	silent        bool
	failed        bool
}

var errRefused = rtmp.ErrRefused

// startEncoder publishes c, which must succeed.
func (sc *scenario) startEncoder(c *clip) *encoder { return sc.startEncoderWith(c, nil) }

// startEncoderWith is startEncoder with other timestamps than those of the clip.
func (sc *scenario) startEncoderWith(c *clip, stamp func(ms int64) int64) *encoder {
	sc.t.Helper()
	e, err := sc.tryPublish(sc.key)
	if err != nil {
		sc.t.Fatal(err)
	}
	e.timestamp = stamp
	e.start(c)
	return e
}

// tryPublish requests to publish with key.
func (sc *scenario) tryPublish(key string) (*encoder, error) {
	c, err := rtmp.Dial(net.Dialer{}, sc.s.Addr("rtmp_addr"), "live", maxWait)
	if err != nil {
		return nil, err
	}
	sc.t.Cleanup(func() { c.NetConn.Close() })
	c.ChunkSize = 60000
	if err = c.Send(rtmp.Message{CSID: 2, Type: rtmp.SetChunkSize,
		Payload: []byte{0, 0, 60000 >> 8, 60000 & 0xff}}); err == nil {
		err = c.Publish(key)
	}
	if err == nil {
		err = c.AwaitStart("NetStream.Publish.Start", maxWait)
	}
	if err != nil {
		c.NetConn.Close()
		return nil, err
	}
	e := &encoder{sc: sc, c: c, commands: make(chan func()), quit: make(chan struct{}), done: make(chan struct{}),
		closed: make(chan struct{})}
	c.NetConn.SetReadDeadline(time.Time{})
	go func() { // reads pings and acknowledgements until the connection is closed
		defer close(e.closed)
		for {
			if _, err := c.Reader.ReadMessage(); err != nil {
				return
			}
		}
	}()
	return e, nil
}

// start starts sending c.
func (e *encoder) start(c *clip) {
	e.began = time.Now()
	e.setClip(c, 0)
	go e.run()
}

// setClip continues with c from a time on.
func (e *encoder) setClip(c *clip, base int64) {
	e.clip, e.next, e.base = c, 0, base
	e.sendMetadata()
	e.sendHeaders()
}

// sendMetadata sends onMetaData, so that viewers wait for the tracks that it announces.
func (e *encoder) sendMetadata() {
	e.send(rtmp.Message{CSID: 5, Type: rtmp.Data, Payload: rtmp.AMF("@setDataFrame", "onMetaData", e.metadata())})
}

func (e *encoder) metadata() rtmp.ECMAArray {
	var meta rtmp.ECMAArray
	for _, h := range e.clip.headers {
		if h.Type == mediacompare.TagVideo {
			codec := 7
			if h.Body[0]&0x80 != 0 { // by FourCC
				codec = int(binary.BigEndian.Uint32(h.Body[1:]))
			}
			meta = append(meta, "videocodecid", codec)
		} else {
			meta = append(meta, "audiocodecid", 10)
		}
	}
	return meta
}

func (e *encoder) sendHeaders() {
	for _, h := range e.clip.headers {
		e.sendTag(h)
	}
}

func (e *encoder) send(m rtmp.Message) {
	m.StreamID = e.c.StreamID
	e.c.NetConn.SetWriteDeadline(time.Now().Add(maxWait))
	if e.c.Send(m) != nil {
		e.failed = true
	}
}

func (e *encoder) sendTag(t mediacompare.FLVTag) {
	at := e.timeOf(t)
	if t.IsHeader() {
		at = e.base
	}
	if e.timestamp != nil {
		at = e.timestamp(at)
	}
	e.send(rtmp.Message{CSID: 4 + int(t.Type)%2, Type: t.Type, Time: uint32(at), Payload: t.Body})
}

// timeOf returns the time in ms at which t is due.
func (e *encoder) timeOf(t mediacompare.FLVTag) int64 {
	return e.base + int64(t.Time) - int64(e.clip.items[0].tag.Time)
}

func (e *encoder) run() {
	defer close(e.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !e.failed {
		if e.next == len(e.clip.items) { // repeat the clip
			e.base, e.next = e.timeOf(e.clip.items[e.next-1].tag)+40, 0
		}
		it := e.clip.items[e.next]
		timer.Reset(time.Until(e.began.Add(time.Duration(e.timeOf(it.tag)) * time.Millisecond)))
		select {
		case f := <-e.commands:
			f()
			continue
		case <-e.quit:
			return
		case <-timer.C:
		}
		if e.next++; e.silent {
			continue
		}
		if e.repeatHeaders && isKey(it) {
			e.sendHeaders()
		}
		e.sc.recordSent(e, it)
		e.sendTag(it.tag)
	}
}

func (sc *scenario) recordSent(e *encoder, it item) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if !sc.discard {
		sc.log = append(sc.log, sentFrame{it, e, time.Now()})
	}
}

// do runs f between two frames.
func (e *encoder) do(f func()) {
	e.sc.t.Helper()
	done := make(chan struct{})
	select {
	case e.commands <- func() { f(); close(done) }:
		<-done
	case <-e.done:
		e.sc.t.Fatal("the encoder's connection is closed")
	}
}

// switchClip continues with another clip on the same connection.
func (e *encoder) switchClip(c *clip) {
	e.sc.t.Helper()
	e.do(func() {
		last := e.clip.items[max(0, e.next-1)].tag
		e.setClip(c, e.timeOf(last)+40)
	})
}

// shiftClock changes the encoder's clock by d.
func (e *encoder) shiftClock(d time.Duration) {
	e.sc.t.Helper()
	e.do(func() {
		old := e.timestamp
		e.timestamp = func(ms int64) int64 {
			if old != nil {
				ms = old(ms)
			}
			return ms + d.Milliseconds()
		}
	})
}

// stop stops sending and keeps the connection open, like a frozen encoder or a network failure.
func (e *encoder) stop() {
	close(e.quit)
	<-e.done
}

// unpublish ends the stream cleanly.
func (e *encoder) unpublish() {
	e.sc.t.Helper()
	e.stop()
	if err := e.c.Unpublish(e.sc.key); err != nil {
		e.sc.t.Fatal(err)
	}
	e.awaitClosed()
}

// fin closes the connection without unpublishing.
func (e *encoder) fin() {
	e.stop()
	e.c.NetConn.Close()
}

// reset closes the connection with RST.
func (e *encoder) reset() {
	e.stop()
	e.c.NetConn.(*net.TCPConn).SetLinger(0)
	e.c.NetConn.Close()
}

// awaitClosed waits until the server has closed the connection.
func (e *encoder) awaitClosed() {
	e.sc.t.Helper()
	if !harness.WaitClosed(maxWait, e.closed) {
		e.sc.t.Fatal("the server did not close the encoder's connection")
	}
}

// startBackup publishes c with the backup key.
func (sc *scenario) startBackup(c *clip) *encoder {
	sc.t.Helper()
	e, err := sc.tryPublish(sc.s.BackupKey(sc.room))
	if err != nil {
		sc.t.Fatal(err)
	}
	e.start(c)
	return e
}

// takeOver publishes as soon as the server allows it, while the previous publisher may still be
// connected.
func (sc *scenario) takeOver(c *clip) *encoder {
	sc.t.Helper()
	var e *encoder
	harness.Eventually(sc.t, maxWait, "takeover", func() (err error) {
		if e, err = sc.tryPublish(sc.key); err != nil && !errors.Is(err, errRefused) {
			sc.t.Fatal(err)
		}
		return err
	})
	e.start(c)
	return e
}

// race has n encoders publish at once. It returns the one that succeeds, and fails if that is not
// exactly one.
func (sc *scenario) race(n int) *encoder {
	sc.t.Helper()
	type result struct {
		e   *encoder
		err error
	}
	results := make(chan result, n)
	for range n {
		go func() {
			e, err := sc.tryPublish(sc.key)
			results <- result{e, err}
		}()
	}
	var winner *encoder
	for range n {
		switch r := <-results; {
		case r.err != nil && !errors.Is(r.err, errRefused) || r.err != nil &&
			!bytes.Contains([]byte(r.err.Error()), []byte("BadName")):
			sc.t.Error(r.err)
		case r.err == nil && winner != nil:
			sc.t.Error("two publishers of one room")
		case r.err == nil:
			winner = r.e
		}
	}
	if winner == nil {
		sc.t.Fatal(fmt.Errorf("none of %d encoders could publish", n))
	}
	return winner
}
