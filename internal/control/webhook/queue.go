package webhook

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"livego/internal/domain"
)

const (
	// maxQueueSize bounds the queue on disk, in bytes. When it is more than half full, events of
	// low priority are not added; when it is full, they are dropped first, and then the oldest.
	maxQueueSize = 64 << 20
	// maxSegmentSize is the size at which a new segment file is started, in bytes.
	maxSegmentSize = 1 << 20
	// maxLine is the longest line of an event, in bytes: a name has 128 characters, and disk errors
	// are cut to as many.
	maxLine = 4 << 10
	// maxEventAge is the age at which an event is not delivered any more.
	maxEventAge = 24 * time.Hour
)

// An Event is an event as it is sent. Receivers detect duplicates by ID.
type Event struct {
	ID string `json:"id"`
	// Type is "stream.started", "stream.held", "stream.resumed", "stream.live", "stream.ended",
	// "viewer.joined", "viewer.left", "recording.finished", "relay.failed"
	Type   string    `json:"type"`
	Stream string    `json:"stream"`
	At     time.Time `json:"at"`
	Viewer uint64    `json:"viewer,omitempty"`

	Recording *Recording `json:"recording,omitempty"` // of recording.finished
	Relay     *Relay     `json:"relay,omitempty"`     // of relay.failed
}

// A Recording describes a closed file in recording.finished.
type Recording struct {
	File     string                 `json:"file"` // below flv_dir
	Started  time.Time              `json:"started"`
	Bytes    int64                  `json:"bytes"`
	Duration float64                `json:"duration"` // seconds
	Gaps     int                    `json:"gaps"`
	Reason   domain.RecordingReason `json:"reason"`
	Error    string                 `json:"error,omitempty"`
}

// A Relay describes the relay in relay.failed. It holds no secret.
type Relay struct {
	Direction string `json:"direction"` // "push", "pull"
	URL       string `json:"url"`       // up to the app
	Reason    string `json:"reason"`
	Attempts  int    `json:"attempts"` // that have failed in a row
}

// typeLive is the event that repeats stream.started and stream.resumed while the stream is live.
const typeLive = "stream.live"

// lowPriority reports whether e is dropped first when the queue is full.
func (e Event) lowPriority() bool { return strings.HasPrefix(e.Type, "viewer.") || e.Type == typeLive }

// diskQueue stores events on disk, in order: segment files of lines, each a checksum and an event.
// It is for one goroutine.
//
//	00000000000000000007.events    segment 7
//	position                       "7 1234": everything before byte 1234 of segment 7 is delivered
type diskQueue struct {
	dir            string
	segments       []int64 // their numbers, oldest first; the last is written to
	size           map[int64]int64
	hasLowPriority map[int64]bool // segments that may have events of low priority
	out            *os.File

	segment, offset int64 // the next event to deliver
	inFlight        int64 // the segment in which the batch in flight ends
	lost            int   // events dropped for lack of space or as broken lines, since resetLost
}

// position is where a batch ends.
type position struct{ segment, offset int64 }

func openQueue(dir string) (*diskQueue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	q := &diskQueue{dir: dir, size: map[int64]int64{}, hasLowPriority: map[int64]bool{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentExt)
		n, err := strconv.ParseInt(name, 10, 64)
		info, infoErr := e.Info()
		if ok && err == nil && infoErr == nil && n >= 0 {
			q.segments = append(q.segments, n)
			q.size[n], q.hasLowPriority[n] = info.Size(), true
		}
	}
	slices.Sort(q.segments)
	if text, err := os.ReadFile(filepath.Join(dir, positionFile)); err == nil {
		// An invalid position is the start: events may be delivered twice, but none is lost.
		_, _ = fmt.Sscan(string(text), &q.segment, &q.offset)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// A new segment, since the last one may end in a partial line.
	next := max(q.segment, 0) + 1
	if n := len(q.segments); n > 0 {
		next = max(next, q.segments[n-1]+1)
	}
	return q, q.startSegment(next)
}

const (
	segmentExt   = ".events"
	positionFile = "position"
)

func (q *diskQueue) path(segment int64) string {
	return filepath.Join(q.dir, fmt.Sprintf("%020d%s", segment, segmentExt))
}

// startSegment starts a new segment.
func (q *diskQueue) startSegment(segment int64) error {
	f, err := os.OpenFile(q.path(segment), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if q.out != nil {
		q.out.Close()
	}
	q.out = f
	q.segments = append(q.segments, segment)
	q.size[segment] = 0
	return nil
}

// add appends events; they are durable when it returns.
func (q *diskQueue) add(events []Event) error {
	var buf bytes.Buffer
	low := false
	for _, e := range events {
		if e.lowPriority() && q.totalSize() > maxQueueSize/2 {
			q.lost++
			continue
		}
		low = low || e.lowPriority()
		line := mustJSON(e)
		fmt.Fprintf(&buf, "%08x %s\n", crc32.ChecksumIEEE(line), line)
	}
	if buf.Len() == 0 {
		return nil
	}
	segment := q.segments[len(q.segments)-1]
	n, err := q.out.Write(buf.Bytes())
	q.size[segment] += int64(n)
	q.hasLowPriority[segment] = q.hasLowPriority[segment] || low
	if err = errors.Join(err, q.out.Sync()); err != nil {
		q.lost += len(events)
		return errors.Join(err, q.startSegment(segment+1)) // after a partial line
	}
	if q.size[segment] >= maxSegmentSize {
		err = q.startSegment(segment + 1)
	}
	return errors.Join(err, q.enforceLimit())
}

// enforceLimit reduces the queue to maxQueueSize.
func (q *diskQueue) enforceLimit() error {
	for q.totalSize() > maxQueueSize && len(q.segments) > 1 {
		if segment, ok := q.oldestLowPriority(); ok {
			if err := q.dropLowPriority(segment); err != nil {
				return err
			}
			continue
		}
		q.lost += q.undelivered(q.segments[0])
		q.dropOldest()
	}
	return nil
}

// oldestLowPriority returns the oldest segment that may have events of low priority, is not written
// to, and is not part of the batch in flight.
func (q *diskQueue) oldestLowPriority() (segment int64, ok bool) {
	for _, segment := range q.segments[:len(q.segments)-1] {
		if q.hasLowPriority[segment] && segment > max(q.segment, q.inFlight) {
			return segment, true
		}
	}
	return 0, false
}

// dropLowPriority removes the events of low priority from a segment.
func (q *diskQueue) dropLowPriority(segment int64) error {
	q.hasLowPriority[segment] = false // not tried again, even after an error
	data, err := os.ReadFile(q.path(segment))
	if err != nil {
		return err
	}
	var rest bytes.Buffer
	lost := 0
	for line := range bytes.Lines(data) {
		if e, ok := parseLine(line); ok && e.lowPriority() {
			lost++
			continue
		}
		rest.Write(line)
	}
	temp := q.path(segment) + ".new"
	if err := os.WriteFile(temp, rest.Bytes(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(temp, q.path(segment)); err != nil {
		return err
	}
	q.size[segment] = int64(rest.Len())
	q.lost += lost
	return nil
}

func (q *diskQueue) totalSize() (n int64) {
	for _, s := range q.size {
		n += s
	}
	return n
}

// undeliveredSize returns how many bytes are not delivered yet.
func (q *diskQueue) undeliveredSize() (n int64) {
	for segment, size := range q.size {
		switch {
		case segment > q.segment:
			n += size
		case segment == q.segment:
			n += max(0, size-q.offset)
		}
	}
	return n
}

// undelivered returns the number of events of a segment that are not delivered yet.
func (q *diskQueue) undelivered(segment int64) int {
	data, err := os.ReadFile(q.path(segment))
	if err != nil {
		return 0
	}
	if segment == q.segment {
		data = data[min(int64(len(data)), q.offset):]
	}
	return bytes.Count(data, []byte{'\n'})
}

// dropOldest removes the oldest segment.
func (q *diskQueue) dropOldest() {
	segment := q.segments[0]
	_ = os.Remove(q.path(segment)) // a file that stays is delivered again after a restart
	q.forgetOldest()
	if q.segment <= segment {
		q.segment, q.offset = q.segments[0], 0
	}
}

// forgetOldest forgets the oldest segment, whose file is removed.
func (q *diskQueue) forgetOldest() {
	delete(q.size, q.segments[0])
	delete(q.hasLowPriority, q.segments[0])
	q.segments = q.segments[1:]
}

// next returns up to limit events to deliver next, and where they end; none when all are delivered.
// Expired events and broken lines are skipped.
func (q *diskQueue) next(limit int, now time.Time) (events []Event, at position, err error) {
	at = position{q.segment, q.offset}
	defer func() { q.inFlight = at.segment }()
	for _, segment := range q.segments {
		if segment < at.segment {
			continue
		}
		if segment > at.segment {
			at = position{segment, 0}
		}
		f, err := os.Open(q.path(segment))
		if err != nil {
			return nil, at, err
		}
		got, err := q.read(f, &at, limit-len(events), now)
		f.Close()
		events = append(events, got...)
		if err != nil || len(events) == limit {
			return events, at, err
		}
	}
	return events, at, nil
}

// read reads events of a segment from at on, and advances at.
func (q *diskQueue) read(f *os.File, at *position, limit int, now time.Time) ([]Event, error) {
	if _, err := f.Seek(at.offset, io.SeekStart); err != nil {
		return nil, err
	}
	var events []Event
	r := bufio.NewReaderSize(f, maxLine)
	for len(events) < limit {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return events, nil // or a partial line, after a crash
		}
		at.offset += int64(len(line))
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return events, err
		}
		e, ok := parseLine(line)
		if !ok {
			q.lost++
			continue
		}
		if now.Sub(e.At) < maxEventAge {
			events = append(events, e)
		}
	}
	return events, nil
}

// parseLine parses a line of a segment; false when it is broken.
func parseLine(line []byte) (e Event, ok bool) {
	if len(line) < 10 || line[8] != ' ' {
		return e, false
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	body := bytes.TrimSuffix(line[9:], []byte{'\n'})
	if err != nil || crc32.ChecksumIEEE(body) != uint32(sum) || json.Unmarshal(body, &e) != nil {
		return Event{}, false
	}
	return e, true
}

// markDelivered records that everything up to p is delivered. A crash may lose it: then some events
// are delivered twice.
func (q *diskQueue) markDelivered(p position) error {
	q.segment, q.offset = p.segment, p.offset
	temp := filepath.Join(q.dir, positionFile+".new")
	err := os.WriteFile(temp, fmt.Appendf(nil, "%d %d\n", p.segment, p.offset), 0o600)
	if err == nil {
		err = os.Rename(temp, filepath.Join(q.dir, positionFile))
	}
	for len(q.segments) > 1 && q.segments[0] < q.segment {
		if rmErr := os.Remove(q.path(q.segments[0])); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			return errors.Join(err, rmErr)
		}
		q.forgetOldest()
	}
	return err
}

// position returns where the undelivered events start.
func (q *diskQueue) position() position { return position{q.segment, q.offset} }

// resetLost returns the number of lost events since the last call.
func (q *diskQueue) resetLost() int {
	n := q.lost
	q.lost = 0
	return n
}

func (q *diskQueue) close() error { return q.out.Close() }
