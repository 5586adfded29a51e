package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
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

	// With TLS: handshakes from the start of the connection, full and resumed, and the first picture
	// from the end of the handshake.
	handshake, resumedHandshake, pictureAfterHandshake histogram
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
	t.handshake.merge(&o.handshake)
	t.resumedHandshake.merge(&o.resumedHandshake)
	t.pictureAfterHandshake.merge(&o.pictureAfterHandshake)
}

// failed returns how many viewers ended early or never joined.
func (t *viewerStats) failed() (n int) {
	for _, c := range t.errors {
		n += c
	}
	return n
}

// joins returns how so many viewers joined. The statistics must not be used again.
func (t *viewerStats) joins(wanted int) Joins {
	if silent := wanted - t.joined - (t.failed() - t.ended); silent > 0 {
		t.errors[errNoPicture.Error()] += silent
	}
	return Joins{
		Viewers:      Viewers{Wanted: wanted, Joined: t.joined, Lost: t.ended, Errors: t.errors},
		FirstPicture: t.firstPicture.percentiles(), Handshake: t.handshake.percentiles(),
		ResumedHandshake:      t.resumedHandshake.percentiles(),
		PictureAfterHandshake: t.pictureAfterHandshake.percentiles(),
	}
}

// connectTimeout is how long a viewer may take to connect, and then to receive a keyframe, before
// the window opens without it.
const connectTimeout = 10 * time.Second

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
	secureAt  int64 // when its first TLS handshake was complete; 0 without TLS
	now       int64 // when the current bytes were received
	resumeAt  int64 // when to continue after a pause; 0 without one
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
	case HLS, LLHLS:
		v.client = newHLSClient(t, v, f)
	}
	if t.http2 {
		v.client = newHTTP2Client(v.client)
	}
	return v
}

// start records that the viewer connects.
func (v *viewer) start() {
	v.startedAt = v.measurement.now()
	v.stats.connected++
}

// handshakeDone records the end of a TLS handshake.
func (v *viewer) handshakeDone(resumed bool) {
	if v.secureAt > 0 { // another connection of the same viewer
		return
	}
	v.secureAt = v.measurement.now()
	h := &v.stats.handshake
	if resumed {
		h = &v.stats.resumedHandshake
	}
	h.add(time.Duration(v.secureAt - v.startedAt))
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
	if v.secureAt > 0 {
		v.stats.pictureAfterHandshake.add(time.Duration(v.now - v.secureAt))
	}
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

// reason describes the end of a viewer in words that are the same for all errors of a kind: no
// ports, no addresses.
func reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, errClosed), errors.Is(err, io.EOF):
		return errClosed.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}
