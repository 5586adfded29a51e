package bench

import (
	"errors"
	"io"
	"sync"
	"time"

	"livego/internal/container/flv"
)

// A tally is what a group of viewers has seen. One goroutine after another feeds it.
type tally struct {
	mu      sync.Mutex
	joined  int // have seen a key frame
	live    int // connected
	ended   int // by the server or an error, after they had joined
	errors  map[string]int
	bytes   int64 // received in the window
	frames  int64 // video frames that were sent in the window
	missing int64 // of those, left out between two that came
	repeats int64 // came again, or late
	gaps    int64 // steps of a video time stamp over more than maxStep
	back    int64 // steps of a time stamp back
	checked int64 // frames whose checksum was looked at
	corrupt int64 // of those, wrong

	latency, first, behind histogram
	spread                 histogram // of parts of LLHLS, from the first viewer to each other
}

func newTally() *tally { return &tally{errors: map[string]int{}} }

func (t *tally) merge(o *tally) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t.joined += o.joined
	t.live += o.live
	t.ended += o.ended
	for why, n := range o.errors {
		t.errors[why] += n
	}
	t.bytes += o.bytes
	t.frames += o.frames
	t.missing += o.missing
	t.repeats += o.repeats
	t.gaps += o.gaps
	t.back += o.back
	t.checked += o.checked
	t.corrupt += o.corrupt
	t.latency.merge(&o.latency)
	t.first.merge(&o.first)
	t.behind.merge(&o.behind)
	t.spread.merge(&o.spread)
}

// gone returns how many have left or never came in.
func (t *tally) gone() (n int) {
	for _, c := range t.errors {
		n += c
	}
	return n
}

// maxStep is the longest step of a video time stamp that is no gap: players have as much in hand.
const maxStep = 500 * time.Millisecond

// A viewer sees one stream. Whoever feeds him holds his tally's lock.
type viewer struct {
	wire   wire
	scene  *scene
	tally  *tally
	target *target

	began    int64 // when he began to connect
	now      int64 // when what is being fed was received
	joined   bool
	over     bool
	lastMark marker
	last     [2]lastTime // of sound and picture
}

type lastTime struct {
	ms   uint32
	seen bool
}

// newViewer returns a viewer of t; checks tells to look at every byte of what he sees.
func newViewer(t *target, s *scene, sum *tally, f *firsts, checks bool) *viewer {
	v := &viewer{scene: s, tally: sum, target: t}
	switch t.proto {
	case RTMP:
		v.wire = newRTMPWire(t, checks, v.message)
	case FLV, WS:
		v.wire = newHTTPWire(t, checks, v.message)
	case LLHLS:
		v.wire = newLowLatencyWire(t, v, f)
	}
	return v
}

// begin notes that he connects.
func (v *viewer) begin() {
	v.began = v.scene.now()
	v.tally.live++
}

// receive takes bytes and returns what to answer. An error is his end.
func (v *viewer) receive(p []byte) (reply []byte, err error) {
	v.now = v.scene.now()
	if v.scene.measured(v.now) {
		v.tally.bytes += int64(len(p))
	}
	return v.wire.feed(p)
}

var (
	errClosed  = errors.New("the server closed the connection")
	errNothing = errors.New("no picture came")
)

// end notes that he is gone, and why. At the end of the run nobody is.
func (v *viewer) end(err error) {
	if v.over {
		return
	}
	v.over = true
	v.tally.live--
	if errors.Is(err, io.EOF) {
		err = errClosed
	}
	if v.joined {
		v.tally.ended++
	}
	v.tally.errors[reason(err)]++
}

// message takes one message of the stream.
func (v *viewer) message(m *message) {
	if !m.isMedia() {
		return
	}
	v.step(m)
	if m.typ != flv.TypeVideo {
		return
	}
	if !v.joined && m.isKey() {
		v.see()
	}
	if m.ok {
		v.frame(m.mark)
	}
	if m.ok && m.sums {
		v.tally.checked++
		if m.sum != m.mark.sum {
			v.tally.corrupt++
		}
	}
}

// see notes the first picture.
func (v *viewer) see() {
	v.joined = true
	v.tally.joined++
	v.tally.first.add(time.Duration(v.now - v.began))
}

// step looks at time stamps.
func (v *viewer) step(m *message) {
	last := &v.last[m.typ&1]
	if step := int32(m.time - last.ms); last.seen && v.scene.measured(v.now) {
		switch {
		case step < 0:
			v.tally.back++
		case m.typ == flv.TypeVideo && step > int32(maxStep/time.Millisecond):
			v.tally.gaps++
		}
	}
	*last = lastTime{m.time, true}
}

// frame counts a marked video frame. What was sent before the window is not measured: a viewer who joins gets frames of before
// he came, and they are as old as they should be. Order goes by the time of sending, since numbers begin anew with each publisher.
func (v *viewer) frame(m marker) {
	last := v.lastMark
	fresh := m.sent > last.sent
	if fresh {
		v.lastMark = m
	}
	switch {
	case !v.scene.measured(m.sent):
		return
	case !fresh:
		v.tally.repeats++
		return
	case last.seq > 0 && m.seq > last.seq:
		v.tally.missing += int64(m.seq - last.seq - 1)
	}
	v.tally.frames++
	v.tally.latency.add(time.Duration(v.now - m.sent))
}
