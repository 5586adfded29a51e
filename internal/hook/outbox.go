package hook

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

	"livego/internal/live"
)

const (
	// maxBox bounds the box on the disk. Beyond half of it only what matters most goes in; beyond all of it what matters least
	// goes first, and then the oldest.
	maxBox = 64 << 20
	// maxPage is how long a file of it grows.
	maxPage = 1 << 20
	// maxLine bounds an event: a name has 128 characters, and what a disk says is cut to as many.
	maxLine = 4 << 10
	// keep is how long an event is worth telling.
	keep = 24 * time.Hour
)

// An Event is news of a stream, as it is told. Who receives it knows by ID what he has had.
type Event struct {
	ID     string    `json:"id"`
	Type   string    `json:"type"` // "stream.started", "stream.held", "stream.resumed", "stream.live", "stream.ended", "viewer.joined", "viewer.left", "recording.finished", "relay.failed"
	Stream string    `json:"stream"`
	At     time.Time `json:"at"`
	Viewer uint64    `json:"viewer,omitempty"`

	Recording *Recording `json:"recording,omitempty"` // of recording.finished
	Relay     *Relay     `json:"relay,omitempty"`     // of relay.failed
}

// A Recording tells of a file that was closed.
type Recording struct {
	File     string               `json:"file"` // below flv_dir
	Started  time.Time            `json:"started"`
	Bytes    int64                `json:"bytes"`
	Duration float64              `json:"duration"` // s
	Gaps     int                  `json:"gaps"`
	Reason   live.RecordingReason `json:"reason"`
	Error    string               `json:"error,omitempty"`
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

// minor reports whether e goes first where there is no room.
func (e Event) minor() bool { return strings.HasPrefix(e.Type, "viewer.") || e.Type == typeLive }

// box keeps events on the disk, in order: files of lines, each a checksum and an event. For one goroutine.
//
//	00000000000000000007.events    page 7
//	position                       "7 1234": what comes before byte 1234 of page 7 has been delivered
type box struct {
	dir   string
	pages []int64 // their numbers, oldest first; the last is written to
	size  map[int64]int64
	minor map[int64]bool // pages that may hold events that go first
	out   *os.File

	page, offset int64 // what is delivered next
	sent         int64 // the page in which the batch under way ends
	lost         int   // events that went for want of room or broken lines, since last asked
}

// position is where a batch ends.
type position struct{ page, offset int64 }

func openBox(dir string) (*box, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &box{dir: dir, size: map[int64]int64{}, minor: map[int64]bool{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), pageExt)
		n, err := strconv.ParseInt(name, 10, 64)
		info, infoErr := e.Info()
		if ok && err == nil && infoErr == nil && n >= 0 {
			b.pages = append(b.pages, n)
			b.size[n], b.minor[n] = info.Size(), true
		}
	}
	slices.Sort(b.pages)
	if text, err := os.ReadFile(filepath.Join(dir, positionFile)); err == nil {
		_, _ = fmt.Sscan(string(text), &b.page, &b.offset) // a broken one is the start: twice is better than never
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// A new page, since the last may end in half a line.
	next := max(b.page, 0) + 1
	if n := len(b.pages); n > 0 {
		next = max(next, b.pages[n-1]+1)
	}
	return b, b.turn(next)
}

const (
	pageExt      = ".events"
	positionFile = "position"
)

func (b *box) path(page int64) string {
	return filepath.Join(b.dir, fmt.Sprintf("%020d%s", page, pageExt))
}

// turn begins a page.
func (b *box) turn(page int64) error {
	f, err := os.OpenFile(b.path(page), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if b.out != nil {
		b.out.Close()
	}
	b.out = f
	b.pages = append(b.pages, page)
	b.size[page] = 0
	return nil
}

// add puts events in and has them on the disk when it returns.
func (b *box) add(events []Event) error {
	var buf bytes.Buffer
	minor := false
	for _, e := range events {
		if e.minor() && b.total() > maxBox/2 {
			b.lost++
			continue
		}
		minor = minor || e.minor()
		line := mustJSON(e)
		fmt.Fprintf(&buf, "%08x %s\n", crc32.ChecksumIEEE(line), line)
	}
	if buf.Len() == 0 {
		return nil
	}
	page := b.pages[len(b.pages)-1]
	n, err := b.out.Write(buf.Bytes())
	b.size[page] += int64(n)
	b.minor[page] = b.minor[page] || minor
	if err = errors.Join(err, b.out.Sync()); err != nil {
		b.lost += len(events)
		return errors.Join(err, b.turn(page+1)) // after half a line
	}
	if b.size[page] >= maxPage {
		err = b.turn(page + 1)
	}
	return errors.Join(err, b.makeRoom())
}

// makeRoom brings the box below its bound.
func (b *box) makeRoom() error {
	for b.total() > maxBox && len(b.pages) > 1 {
		if page, ok := b.oldestMinor(); ok {
			if err := b.thin(page); err != nil {
				return err
			}
			continue
		}
		b.lost += b.count(b.pages[0])
		b.drop()
	}
	return nil
}

// oldestMinor returns the oldest page that may hold minor events and is not written to, and of which nothing is being delivered.
func (b *box) oldestMinor() (page int64, ok bool) {
	for _, page := range b.pages[:len(b.pages)-1] {
		if b.minor[page] && page > max(b.page, b.sent) {
			return page, true
		}
	}
	return 0, false
}

// thin removes the minor events of a page.
func (b *box) thin(page int64) error {
	b.minor[page] = false // whatever comes of it, it is not tried again
	data, err := os.ReadFile(b.path(page))
	if err != nil {
		return err
	}
	var rest bytes.Buffer
	lost := 0
	for line := range bytes.Lines(data) {
		if e, ok := parseLine(line); ok && e.minor() {
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

func (b *box) total() (n int64) {
	for _, s := range b.size {
		n += s
	}
	return n
}

// count returns how many events of a page are not delivered yet.
func (b *box) count(page int64) int {
	data, err := os.ReadFile(b.path(page))
	if err != nil {
		return 0
	}
	if page == b.page {
		data = data[min(int64(len(data)), b.offset):]
	}
	return bytes.Count(data, []byte{'\n'})
}

// drop removes the oldest page.
func (b *box) drop() {
	page := b.pages[0]
	_ = os.Remove(b.path(page)) // one that stays is delivered again after a restart
	delete(b.size, page)
	delete(b.minor, page)
	b.pages = b.pages[1:]
	if b.page <= page {
		b.page, b.offset = b.pages[0], 0
	}
}

// next returns up to limit events that are to be delivered next, and where they end; none when all are. What is too old or broken is
// passed over.
func (b *box) next(limit int, now time.Time) (events []Event, at position, err error) {
	at = position{b.page, b.offset}
	defer func() { b.sent = at.page }()
	for _, page := range b.pages {
		if page < at.page {
			continue
		}
		if page > at.page {
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
func (b *box) read(f *os.File, at *position, limit int, now time.Time) ([]Event, error) {
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
		if now.Sub(e.At) < keep {
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

// delivered notes that all up to p has been. It may be lost in a crash: then some are told twice.
func (b *box) delivered(p position) error {
	b.page, b.offset = p.page, p.offset
	temp := filepath.Join(b.dir, positionFile+".new")
	err := os.WriteFile(temp, fmt.Appendf(nil, "%d %d\n", p.page, p.offset), 0o600)
	if err == nil {
		err = os.Rename(temp, filepath.Join(b.dir, positionFile))
	}
	for len(b.pages) > 1 && b.pages[0] < b.page {
		page := b.pages[0]
		if rmErr := os.Remove(b.path(page)); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			return errors.Join(err, rmErr)
		}
		delete(b.size, page)
		delete(b.minor, page)
		b.pages = b.pages[1:]
	}
	return err
}

// position is up to where all has been delivered.
func (b *box) position() position { return position{b.page, b.offset} }

// takeLost returns how many went since it was last asked.
func (b *box) takeLost() int {
	n := b.lost
	b.lost = 0
	return n
}

func (b *box) close() error { return b.out.Close() }
