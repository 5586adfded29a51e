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
	// maxQueueSize bounds the box on the disk. Beyond half of it only what matters most goes in;
	// beyond all of it what matters least goes first, and then the oldest.
	maxQueueSize = 64 << 20
	// maxSegmentSize is how long a file of it grows.
	maxSegmentSize = 1 << 20
	// maxLine bounds an event: a name has 128 characters, and what a disk says is cut to as many.
	maxLine = 4 << 10
	// maxEventAge is how long an event is worth telling.
	maxEventAge = 24 * time.Hour
)

// An Event is news of a stream, as it is told. Who receives it knows by ID what he has had.
type Event struct {
	ID string `json:"id"`
	// "stream.started", "stream.held", "stream.resumed", "stream.live", "stream.ended",
	// "viewer.joined", "viewer.left", "recording.finished", "relay.failed"
	Type   string    `json:"type"`
	Stream string    `json:"stream"`
	At     time.Time `json:"at"`
	Viewer uint64    `json:"viewer,omitempty"`

	Recording *Recording `json:"recording,omitempty"` // of recording.finished
	Relay     *Relay     `json:"relay,omitempty"`     // of relay.failed
}

// A Recording tells of a file that was closed.
type Recording struct {
	File     string                 `json:"file"` // below flv_dir
	Started  time.Time              `json:"started"`
	Bytes    int64                  `json:"bytes"`
	Duration float64                `json:"duration"` // s
	Gaps     int                    `json:"gaps"`
	Reason   domain.RecordingReason `json:"reason"`
	Error    string                 `json:"error,omitempty"`
}

// A Relay is what relay.failed says of it. It holds no secret.
type Relay struct {
	Direction string `json:"direction"` // "push", "pull"
	URL       string `json:"url"`       // up to the app
	Reason    string `json:"reason"`
	Attempts  int    `json:"attempts"` // that have failed in a row
}

// typeLive says once more what stream.started and stream.resumed have said.
const typeLive = "stream.live"

// lowPriority reports whether e goes first where there is no room.
func (e Event) lowPriority() bool { return strings.HasPrefix(e.Type, "viewer.") || e.Type == typeLive }

// diskQueue keeps events on the disk, in order: files of lines, each a checksum and an event. For one goroutine.
//
//	00000000000000000007.events    page 7
//	position                       "7 1234": what comes before byte 1234 of page 7 has been delivered
type diskQueue struct {
	dir            string
	segments       []int64 // their numbers, oldest first; the last is written to
	size           map[int64]int64
	hasLowPriority map[int64]bool // pages that may hold events that go first
	out            *os.File

	segment, offset int64 // what is delivered next
	inFlight        int64 // the page in which the batch under way ends
	lost            int   // events that went for want of room or broken lines, since last asked
}

// position is where a batch ends.
type position struct{ segment, offset int64 }

func openQueue(dir string) (*diskQueue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &diskQueue{dir: dir, size: map[int64]int64{}, hasLowPriority: map[int64]bool{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentExt)
		n, err := strconv.ParseInt(name, 10, 64)
		info, infoErr := e.Info()
		if ok && err == nil && infoErr == nil && n >= 0 {
			b.segments = append(b.segments, n)
			b.size[n], b.hasLowPriority[n] = info.Size(), true
		}
	}
	slices.Sort(b.segments)
	if text, err := os.ReadFile(filepath.Join(dir, positionFile)); err == nil {
		_, _ = fmt.Sscan(string(text), &b.segment, &b.offset) // a broken one is the start: twice is better than never
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// A new page, since the last may end in half a line.
	next := max(b.segment, 0) + 1
	if n := len(b.segments); n > 0 {
		next = max(next, b.segments[n-1]+1)
	}
	return b, b.startSegment(next)
}

const (
	segmentExt   = ".events"
	positionFile = "position"
)

func (b *diskQueue) path(page int64) string {
	return filepath.Join(b.dir, fmt.Sprintf("%020d%s", page, segmentExt))
}

// startSegment begins a page.
func (b *diskQueue) startSegment(page int64) error {
	f, err := os.OpenFile(b.path(page), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if b.out != nil {
		b.out.Close()
	}
	b.out = f
	b.segments = append(b.segments, page)
	b.size[page] = 0
	return nil
}

// add puts events in and has them on the disk when it returns.
func (b *diskQueue) add(events []Event) error {
	var buf bytes.Buffer
	minor := false
	for _, e := range events {
		if e.lowPriority() && b.totalSize() > maxQueueSize/2 {
			b.lost++
			continue
		}
		minor = minor || e.lowPriority()
		line := mustJSON(e)
		fmt.Fprintf(&buf, "%08x %s\n", crc32.ChecksumIEEE(line), line)
	}
	if buf.Len() == 0 {
		return nil
	}
	page := b.segments[len(b.segments)-1]
	n, err := b.out.Write(buf.Bytes())
	b.size[page] += int64(n)
	b.hasLowPriority[page] = b.hasLowPriority[page] || minor
	if err = errors.Join(err, b.out.Sync()); err != nil {
		b.lost += len(events)
		return errors.Join(err, b.startSegment(page+1)) // after half a line
	}
	if b.size[page] >= maxSegmentSize {
		err = b.startSegment(page + 1)
	}
	return errors.Join(err, b.enforceLimit())
}

// enforceLimit brings the box below its bound.
func (b *diskQueue) enforceLimit() error {
	for b.totalSize() > maxQueueSize && len(b.segments) > 1 {
		if page, ok := b.oldestLowPriority(); ok {
			if err := b.dropLowPriority(page); err != nil {
				return err
			}
			continue
		}
		b.lost += b.undelivered(b.segments[0])
		b.dropOldest()
	}
	return nil
}

// oldestLowPriority returns the oldest page that may hold minor events and is not written to, and
// of which nothing is being delivered.
func (b *diskQueue) oldestLowPriority() (page int64, ok bool) {
	for _, page := range b.segments[:len(b.segments)-1] {
		if b.hasLowPriority[page] && page > max(b.segment, b.inFlight) {
			return page, true
		}
	}
	return 0, false
}

// dropLowPriority removes the minor events of a page.
func (b *diskQueue) dropLowPriority(page int64) error {
	b.hasLowPriority[page] = false // whatever comes of it, it is not tried again
	data, err := os.ReadFile(b.path(page))
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
	temp := b.path(page) + ".new"
	if err := os.WriteFile(temp, rest.Bytes(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(temp, b.path(page)); err != nil {
		return err
	}
	b.size[page] = int64(rest.Len())
	b.lost += lost
	return nil
}

func (b *diskQueue) totalSize() (n int64) {
	for _, s := range b.size {
		n += s
	}
	return n
}

// undelivered returns how many events of a page are not delivered yet.
func (b *diskQueue) undelivered(page int64) int {
	data, err := os.ReadFile(b.path(page))
	if err != nil {
		return 0
	}
	if page == b.segment {
		data = data[min(int64(len(data)), b.offset):]
	}
	return bytes.Count(data, []byte{'\n'})
}

// dropOldest removes the oldest page.
func (b *diskQueue) dropOldest() {
	page := b.segments[0]
	_ = os.Remove(b.path(page)) // one that stays is delivered again after a restart
	delete(b.size, page)
	delete(b.hasLowPriority, page)
	b.segments = b.segments[1:]
	if b.segment <= page {
		b.segment, b.offset = b.segments[0], 0
	}
}

// next returns up to limit events that are to be delivered next, and where they end; none when all
// are. What is too old or broken is passed over.
func (b *diskQueue) next(limit int, now time.Time) (events []Event, at position, err error) {
	at = position{b.segment, b.offset}
	defer func() { b.inFlight = at.segment }()
	for _, page := range b.segments {
		if page < at.segment {
			continue
		}
		if page > at.segment {
			at = position{page, 0}
		}
		f, err := os.Open(b.path(page))
		if err != nil {
			return nil, at, err
		}
		got, err := b.read(f, &at, limit-len(events), now)
		f.Close()
		events = append(events, got...)
		if err != nil || len(events) == limit {
			return events, at, err
		}
	}
	return events, at, nil
}

// read reads events of a page from at on, and moves it.
func (b *diskQueue) read(f *os.File, at *position, limit int, now time.Time) ([]Event, error) {
	if _, err := f.Seek(at.offset, io.SeekStart); err != nil {
		return nil, err
	}
	var events []Event
	r := bufio.NewReaderSize(f, maxLine)
	for len(events) < limit {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return events, nil // half a line too: a crash was in the middle
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
			b.lost++
			continue
		}
		if now.Sub(e.At) < maxEventAge {
			events = append(events, e)
		}
	}
	return events, nil
}

// parseLine reads a line of a page; false when it is broken.
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

// markDelivered notes that all up to p has been. It may be lost in a crash: then some are told twice.
func (b *diskQueue) markDelivered(p position) error {
	b.segment, b.offset = p.segment, p.offset
	temp := filepath.Join(b.dir, positionFile+".new")
	err := os.WriteFile(temp, fmt.Appendf(nil, "%d %d\n", p.segment, p.offset), 0o600)
	if err == nil {
		err = os.Rename(temp, filepath.Join(b.dir, positionFile))
	}
	for len(b.segments) > 1 && b.segments[0] < b.segment {
		page := b.segments[0]
		if rmErr := os.Remove(b.path(page)); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			return errors.Join(err, rmErr)
		}
		delete(b.size, page)
		delete(b.hasLowPriority, page)
		b.segments = b.segments[1:]
	}
	return err
}

// position is up to where all has been delivered.
func (b *diskQueue) position() position { return position{b.segment, b.offset} }

// resetLost returns how many went since it was last asked.
func (b *diskQueue) resetLost() int {
	n := b.lost
	b.lost = 0
	return n
}

func (b *diskQueue) close() error { return b.out.Close() }
