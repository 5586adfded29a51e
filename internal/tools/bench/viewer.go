package bench

import (
	"errors"
	"io"
	"sync"
	"time"

	"livego/internal/container/flv"
)

// A viewerStats is the statistics of a group of viewers, guarded by mu.
type viewerStats struct {
	mu        sync.Mutex
	joined    int // have received a keyframe
	connected int // connected
	ended     int // joined, and were ended by the server or an error
	errors    map[string]int
	bytes     int64 // received in the window
	frames    int64 // received video frames that were sent in the window
	missing   int64 // frames missing between two received ones
	repeats   int64 // frames received again or out of order
	gaps      int64 // steps of a video timestamp above maxStep
	stepsBack int64 // steps back of a timestamp
	checked   int64 // frames whose checksum was verified
	corrupt   int64 // of those, with a wrong checksum

	latency, firstPicture, readDelay histogram
	partSpread                       histogram // delay of parts of LLHLS, from the first viewer to each other
}

func newViewerStats() *viewerStats { return &viewerStats{errors: map[string]int{}} }

func (t *viewerStats) merge(o *viewerStats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t.joined += o.joined
	t.connected += o.connected
	t.ended += o.ended
	for why, n := range o.errors {
		t.errors[why] += n
	}
	t.bytes += o.bytes
	t.frames += o.frames
	t.missing += o.missing
	t.repeats += o.repeats
	t.gaps += o.gaps
	t.stepsBack += o.stepsBack
	t.checked += o.checked
	t.corrupt += o.corrupt
	t.latency.merge(&o.latency)
	t.firstPicture.merge(&o.firstPicture)
	t.readDelay.merge(&o.readDelay)
	t.partSpread.merge(&o.partSpread)
}

// failed returns how many viewers ended early or never joined.
func (t *viewerStats) failed() (n int) {
	for _, c := range t.errors {
		n += c
	}
	return n
}

// maxStep is the longest step of video timestamps that does not count as a gap: players buffer as
// much.
const maxStep = 500 * time.Millisecond

// A viewer plays one stream. The goroutine that feeds it holds stats.mu.
type viewer struct {
	client      client
	measurement *measurement
	stats       *viewerStats
	target      *target

	startedAt int64 // when it started to connect
	now       int64 // when the current bytes were received
	joined    bool
	ended     bool
	lastMark  marker
	last      [2]lastTime // of audio and video
}

type lastTime struct {
	ms   uint32
	seen bool
}

// newViewer returns a viewer of t. checks makes it verify the checksum of every frame.
func newViewer(t *target, s *measurement, sum *viewerStats, f *partArrivals, checks bool) *viewer {
	v := &viewer{measurement: s, stats: sum, target: t}
	switch t.proto {
	case RTMP:
		v.client = newRTMPClient(t, checks, v.handleMessage)
	case FLV, WS:
		v.client = newHTTPClient(t, checks, v.handleMessage)
	case LLHLS:
		v.client = newLLHLSClient(t, v, f)
	}
	return v
}

// start records that the viewer connects.
func (v *viewer) start() {
	v.startedAt = v.measurement.now()
	v.stats.connected++
}

// receive processes received bytes and returns the bytes to reply. An error ends the viewer.
func (v *viewer) receive(p []byte) (reply []byte, err error) {
	v.now = v.measurement.now()
	if v.measurement.measured(v.now) {
		v.stats.bytes += int64(len(p))
	}
	return v.client.feed(p)
}

var (
	errClosed    = errors.New("the server closed the connection")
	errNoPicture = errors.New("no keyframe received")
)

// end records that the viewer ended, and why. It is not called at the regular end of a run.
func (v *viewer) end(err error) {
	if v.ended {
		return
	}
	v.ended = true
	v.stats.connected--
	if errors.Is(err, io.EOF) {
		err = errClosed
	}
	if v.joined {
		v.stats.ended++
	}
	v.stats.errors[reason(err)]++
}

// handleMessage processes one message of the stream.
func (v *viewer) handleMessage(m *message) {
	if !m.isMedia() {
		return
	}
	v.checkTimestamp(m)
	if m.typ != flv.TypeVideo {
		return
	}
	if !v.joined && m.isKey() {
		v.markJoined()
	}
	if m.hasMarker {
		v.countFrame(m.mark)
	}
	if m.hasMarker && m.sums {
		v.stats.checked++
		if m.sum != m.mark.sum {
			v.stats.corrupt++
		}
	}
}

// markJoined records the first keyframe.
func (v *viewer) markJoined() {
	v.joined = true
	v.stats.joined++
	v.stats.firstPicture.add(time.Duration(v.now - v.startedAt))
}

// checkTimestamp counts gaps and steps back of timestamps.
func (v *viewer) checkTimestamp(m *message) {
	last := &v.last[m.typ&1]
	if step := int32(m.time - last.ms); last.seen && v.measurement.measured(v.now) {
		switch {
		case step < 0:
			v.stats.stepsBack++
		case m.typ == flv.TypeVideo && step > int32(maxStep/time.Millisecond):
			v.stats.gaps++
		}
	}
	*last = lastTime{m.time, true}
}

// countFrame counts a marked video frame. Frames sent before the window are not measured: a viewer
// that joins receives older frames, which are as old as they should be. Order goes by the time of
// sending, since the numbers restart with each publisher.
func (v *viewer) countFrame(m marker) {
	last := v.lastMark
	fresh := m.sent > last.sent
	if fresh {
		v.lastMark = m
	}
	switch {
	case !v.measurement.measured(m.sent):
		return
	case !fresh:
		v.stats.repeats++
		return
	case last.seq > 0 && m.seq > last.seq:
		v.stats.missing += int64(m.seq - last.seq - 1)
	}
	v.stats.frames++
	v.stats.latency.add(time.Duration(v.now - m.sent))
}
