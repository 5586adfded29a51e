package scenes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"livego/e2e/essence"
	"livego/e2e/rig"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// A clip is a sample, ready to be sent.
type clip struct {
	headers []essence.FLVTag
	items   []item
}

// An item is a frame of a clip.
type item struct {
	tag     essence.FLVTag
	unit    essence.Unit // as RTMP and FLV carry it
	essence essence.Unit // as a decoder gets it
}

// load reads a sample.
func load(t testing.TB, s sample.Sample) *clip {
	t.Helper()
	file := s.Read(t)
	packets, err := file.Packets()
	if err != nil {
		t.Fatal(err)
	}
	units, err := file.Essence()
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

// of returns the part of c that is of one kind.
func (c *clip) of(k essence.Kind) *clip {
	typ := byte(essence.TagAudio)
	if k == essence.Video {
		typ = essence.TagVideo
	}
	return &clip{
		slices.DeleteFunc(slices.Clone(c.headers), func(t essence.FLVTag) bool { return t.Type != typ }),
		slices.DeleteFunc(slices.Clone(c.items), func(it item) bool { return it.tag.Type != typ }),
	}
}

// with returns c and other in one.
func (c *clip) with(other *clip) *clip {
	m := &clip{slices.Concat(c.headers, other.headers), slices.Concat(c.items, other.items)}
	slices.SortStableFunc(m.items, func(a, b item) int { return int(a.tag.Time) - int(b.tag.Time) })
	return m
}

// without returns c but for the items that f picks.
func (c *clip) without(f func(item) bool) *clip {
	return &clip{c.headers, slices.DeleteFunc(slices.Clone(c.items), f)}
}

// from returns c from the first keyframe at or after a time on.
func (c *clip) from(at time.Duration) *clip {
	first := slices.IndexFunc(c.items, func(it item) bool { return isKey(it) && it.unit.DTS >= at })
	return &clip{c.headers, c.items[first:]}
}

func isKey(it item) bool { return it.unit.Kind == essence.Video && it.unit.Key }

// An encoder sends a clip to a room in real time, until it is told otherwise.
type encoder struct {
	sc *scene
	c  *rtmp.Conn

	orders chan func() // done between two frames
	quit   chan struct{}
	done   chan struct{} // nothing is sent any more
	gone   chan struct{} // the server has hung up

	// The sending goroutine's.
	clip    *clip
	next    int
	base    int64 // ms of the clip's beginning
	began   time.Time
	stamp   func(ms int64) int64 // what is written for a time; nil: that time
	repeats bool                 // headers before each keyframe
	silent  bool
	dead    bool
}

var errRefused = rtmp.ErrRefused

// encode publishes c, which must be granted.
func (sc *scene) encode(c *clip) *encoder { return sc.encodeWith(c, nil) }

// encodeWith is encode with other time stamps than those of the clip.
func (sc *scene) encodeWith(c *clip, stamp func(ms int64) int64) *encoder {
	sc.t.Helper()
	e, err := sc.tryEncode(sc.key)
	if err != nil {
		sc.t.Fatal(err)
	}
	e.stamp = stamp
	e.start(c)
	return e
}

// tryEncode asks to publish with key.
func (sc *scene) tryEncode(key string) (*encoder, error) {
	c, err := rtmp.Open(net.Dialer{}, sc.s.Addr("rtmp_addr"), "live", patience)
	if err != nil {
		return nil, err
	}
	sc.t.Cleanup(func() { c.NC.Close() })
	c.Out = 60000
	if err = c.Send(rtmp.Message{CSID: 2, Type: rtmp.SetChunkSize, Payload: []byte{0, 0, 60000 >> 8, 60000 & 0xff}}); err == nil {
		err = c.Publish(key)
	}
	if err == nil {
		err = c.Started("NetStream.Publish.Start", patience)
	}
	if err != nil {
		c.NC.Close()
		return nil, err
	}
	e := &encoder{sc: sc, c: c, orders: make(chan func()), quit: make(chan struct{}), done: make(chan struct{}), gone: make(chan struct{})}
	c.NC.SetReadDeadline(time.Time{})
	go func() { // pings and acknowledgements, and the end
		defer close(e.gone)
		for {
			if _, err := c.In.Next(); err != nil {
				return
			}
		}
	}()
	return e, nil
}

// start begins to send c.
func (e *encoder) start(c *clip) {
	e.began = time.Now()
	e.set(c, 0)
	go e.run()
}

// set goes on with c from a time on.
func (e *encoder) set(c *clip, base int64) {
	e.clip, e.next, e.base = c, 0, base
	e.announce()
	e.sendHeaders()
}

// announce sends onMetaData, so that viewers wait for the tracks that there will be.
func (e *encoder) announce() {
	e.send(rtmp.Message{CSID: 5, Type: rtmp.Data, Payload: rtmp.AMF("@setDataFrame", "onMetaData", e.meta())})
}

func (e *encoder) meta() rtmp.ECMA {
	var meta rtmp.ECMA
	for _, h := range e.clip.headers {
		if h.Type == essence.TagVideo {
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
	e.c.NC.SetWriteDeadline(time.Now().Add(patience))
	if e.c.Send(m) != nil {
		e.dead = true
	}
}

func (e *encoder) sendTag(t essence.FLVTag) {
	at := e.now(t)
	if t.IsHeader() {
		at = e.base
	}
	if e.stamp != nil {
		at = e.stamp(at)
	}
	e.send(rtmp.Message{CSID: 4 + int(t.Type)%2, Type: t.Type, Time: uint32(at), Payload: t.Body})
}

// now returns the ms at which t is due.
func (e *encoder) now(t essence.FLVTag) int64 {
	return e.base + int64(t.Time) - int64(e.clip.items[0].tag.Time)
}

func (e *encoder) run() {
	defer close(e.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !e.dead {
		if e.next == len(e.clip.items) { // once more
			e.base, e.next = e.now(e.clip.items[e.next-1].tag)+40, 0
		}
		it := e.clip.items[e.next]
		timer.Reset(time.Until(e.began.Add(time.Duration(e.now(it.tag)) * time.Millisecond)))
		select {
		case f := <-e.orders:
			f()
			continue
		case <-e.quit:
			return
		case <-timer.C:
		}
		if e.next++; e.silent {
			continue
		}
		if e.repeats && isKey(it) {
			e.sendHeaders()
		}
		e.sc.sent(e, it)
		e.sendTag(it.tag)
	}
}

func (sc *scene) sent(e *encoder, it item) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if !sc.forgetful {
		sc.log = append(sc.log, sent{it, e, time.Now()})
	}
}

// order has f done between two frames.
func (e *encoder) order(f func()) {
	e.sc.t.Helper()
	done := make(chan struct{})
	select {
	case e.orders <- func() { f(); close(done) }:
		<-done
	case <-e.done:
		e.sc.t.Fatal("the encoder has lost its connection")
	}
}

// change goes on with another clip on the same connection.
func (e *encoder) change(c *clip) {
	e.sc.t.Helper()
	e.order(func() {
		last := e.clip.items[max(0, e.next-1)].tag
		e.set(c, e.now(last)+40)
	})
}

// jump sets the encoder's clock.
func (e *encoder) jump(d time.Duration) {
	e.sc.t.Helper()
	e.order(func() {
		old := e.stamp
		e.stamp = func(ms int64) int64 {
			if old != nil {
				ms = old(ms)
			}
			return ms + d.Milliseconds()
		}
	})
}

// stop ends the sending, and nothing else: a frozen encoder, or a network that is cut.
func (e *encoder) stop() {
	close(e.quit)
	<-e.done
}

// goodbye ends the stream properly.
func (e *encoder) goodbye() {
	e.sc.t.Helper()
	e.stop()
	if err := e.c.Unpublish(e.sc.key); err != nil {
		e.sc.t.Fatal(err)
	}
	e.awaitGone()
}

// fin closes the connection without a goodbye.
func (e *encoder) fin() {
	e.stop()
	e.c.NC.Close()
}

// reset closes it with RST.
func (e *encoder) reset() {
	e.stop()
	e.c.NC.(*net.TCPConn).SetLinger(0)
	e.c.NC.Close()
}

// awaitGone waits until the server has hung up.
func (e *encoder) awaitGone() {
	e.sc.t.Helper()
	if !rig.Within(patience, e.gone) {
		e.sc.t.Fatal("the server keeps the encoder's connection")
	}
}

// backup publishes c beside the main encoder.
func (sc *scene) backup(c *clip) *encoder {
	sc.t.Helper()
	e, err := sc.tryEncode(sc.s.BackupKey(sc.room))
	if err != nil {
		sc.t.Fatal(err)
	}
	e.start(c)
	return e
}

// takeOver publishes as soon as the server lets it, with whoever published before still connected.
func (sc *scene) takeOver(c *clip) *encoder {
	sc.t.Helper()
	var e *encoder
	rig.Eventually(sc.t, patience, "takeover", func() (err error) {
		if e, err = sc.tryEncode(sc.key); err != nil && !errors.Is(err, errRefused) {
			sc.t.Fatal(err)
		}
		return err
	})
	e.start(c)
	return e
}

// race lets n encoders try at once. It returns the one that may publish, and fails where that is not exactly one.
func (sc *scene) race(n int) *encoder {
	sc.t.Helper()
	type result struct {
		e   *encoder
		err error
	}
	results := make(chan result, n)
	for range n {
		go func() {
			e, err := sc.tryEncode(sc.key)
			results <- result{e, err}
		}()
	}
	var winner *encoder
	for range n {
		switch r := <-results; {
		case r.err != nil && !errors.Is(r.err, errRefused) || r.err != nil && !bytes.Contains([]byte(r.err.Error()), []byte("BadName")):
			sc.t.Error(r.err)
		case r.err == nil && winner != nil:
			sc.t.Error("two publishers of one room")
		case r.err == nil:
			winner = r.e
		}
	}
	if winner == nil {
		sc.t.Fatal(fmt.Errorf("none of %d may publish", n))
	}
	return winner
}
