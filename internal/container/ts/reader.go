package ts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"livego/internal/media"
)

// A Reader reads the frames of the first program of a transport stream file, in the order in which
// they are complete. Packets may have 188 bytes, 192 with a timecode in front, or 204 with a
// checksum at the end. Not for concurrent use.
type Reader struct {
	r       io.ReaderAt
	size    int64
	packet  int64 // packet size in bytes
	demux   *demuxer
	skipped int64 // bytes outside packets
	streams []media.Stream
	first   time.Duration
	last    time.Duration

	pos       int64 // file offset of buf
	buf       []byte
	off       int   // offset of the unread bytes in buf
	outOfSync bool  // no sync byte at the expected offset
	gap       int64 // bytes skipped since sync was lost
	ended     bool
	ahead     []*media.Frame // returned before newly read frames
	framePos  int64          // file offset of the last frame
}

const (
	readWindow = 64 << 10
	maxProbe   = 8 << 20  // bytes at the start in which every stream must appear
	maxGap     = 64 << 20 // bytes without a packet: reading stops there
	tailWindow = 1 << 20  // bytes at the end that are searched for the last timestamp
	minSyncs   = 4        // consecutive packets that identify a stream
)

// packetSizes are the possible packet sizes.
var packetSizes = [...]int64{packetSize, 192, 204}

// Detect reports whether b, which should have some thousand bytes, looks like a transport stream:
// sync bytes one packet apart.
func Detect(b []byte) bool {
	_, _, ok := findSync(b)
	return ok
}

// findSync returns the packet size and the position of the first sync byte.
func findSync(b []byte) (size int64, at int, ok bool) {
	for at := range min(len(b), 1024) {
		for _, size := range packetSizes {
			if inSync(b[at:], size, minSyncs) {
				return size, at, true
			}
		}
	}
	return 0, 0, false
}

// inSync reports whether b has n sync bytes one packet apart, or as many as fit into b.
func inSync(b []byte, size int64, n int) bool {
	have := 0
	for ; have < n && len(b) > 0; have++ {
		if b[0] != syncByte {
			return false
		}
		if int64(len(b)) < size {
			break
		}
		b = b[size:]
	}
	return have >= n || have > 0 && len(b) == 0
}

const syncByte = 0x47

// NewReader reads the head of a file of size bytes until every stream of its program is known, and
// the last timestamp.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	t := &Reader{r: r, size: size, demux: newDemuxer()}
	head := make([]byte, min(size, readWindow))
	if n, err := r.ReadAt(head, 0); n == 0 && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	packet, at, ok := findSync(head)
	if !ok {
		return nil, errors.New("ts: no transport packets found")
	}
	t.packet, t.pos = packet, int64(at)
	if err := t.probe(); err != nil {
		return nil, err
	}
	t.last = t.lastTime()
	return t, nil
}

// probe reads until all streams are known.
func (t *Reader) probe() error {
	for {
		m, err := t.read()
		if err != nil && err != io.EOF {
			return err
		}
		if m != nil {
			t.ahead = append(t.ahead, m)
		}
		if err == io.EOF || t.pos+int64(t.off) > maxProbe || t.allKnown() {
			break
		}
	}
	if t.demux.pmtPID < 0 || len(t.demux.streams) == 0 {
		return fmt.Errorf("ts: no program in the first %d bytes", min(t.size, maxProbe))
	}
	for _, e := range t.demux.streams {
		if track := e.describe(); track != nil {
			t.streams = append(t.streams, media.Stream{Track: track})
		}
	}
	if len(t.streams) == 0 {
		return errors.New("ts: program without readable frames")
	}
	t.first = seconds(t.demux.earliest)
	return nil
}

func (t *Reader) allKnown() bool {
	for _, e := range t.demux.streams {
		if e.describe() == nil && !e.ignored {
			return false
		}
	}
	return len(t.demux.streams) > 0
}

// Streams returns the streams of the program. Shared: do not modify.
func (t *Reader) Streams() []media.Stream {
	for i := range t.streams {
		t.streams[i].Duration = t.Duration()
	}
	return t.streams
}

// Duration returns the time from the first timestamp to the last.
func (t *Reader) Duration() time.Duration { return max(t.last-t.first, 0) }

// Problems describes the damage that was found so far, "" if none.
func (t *Reader) Problems() string {
	switch d := t.demux; {
	case d.Scrambled > 0:
		return fmt.Sprintf("%d packets are scrambled", d.Scrambled)
	case d.Lost+d.Malformed > 0 || t.skipped > 0:
		return fmt.Sprintf("%d packets missing, %d units malformed, %d bytes outside packets", d.Lost, d.Malformed,
			t.skipped)
	}
	return ""
}

// Next returns the next frame, io.EOF after the last.
func (t *Reader) Next() (*media.Frame, error) {
	if len(t.ahead) > 0 {
		m := t.ahead[0]
		t.ahead = t.ahead[1:]
		return m, nil
	}
	return t.read()
}

func (t *Reader) read() (*media.Frame, error) {
	for len(t.demux.ready) == 0 {
		if t.ended {
			return nil, io.EOF
		}
		if err := t.nextPacket(); err == io.EOF {
			t.ended = true
			t.demux.flushAll()
		} else if err != nil {
			return nil, err
		}
	}
	m := t.demux.ready[0]
	t.demux.ready = t.demux.ready[1:]
	t.framePos = m.pos
	return m.f, nil
}

// nextPacket passes the next packet to the demuxer. When out of sync, it searches sync bytes.
func (t *Reader) nextPacket() error {
	for {
		if err := t.fill(); err != nil {
			return err
		}
		b := t.buf[t.off:]
		if b[0] == syncByte && (!t.outOfSync || inSync(b, t.packet, 2)) {
			t.outOfSync, t.gap = false, 0
			t.demux.pos = t.pos + int64(t.off)
			t.off += int(min(t.packet, int64(len(b))))
			if len(b) < packetSize { // a truncated last packet
				return io.EOF
			}
			t.demux.packet(b[:packetSize])
			return nil
		}
		n := 1
		if i := bytes.IndexByte(b[1:], syncByte); i >= 0 {
			n += i
		} else {
			n = len(b)
		}
		t.off += n
		t.skipped += int64(n)
		t.outOfSync = true
		if t.gap += int64(n); t.gap > maxGap {
			return fmt.Errorf("ts: no packets in %d bytes", t.gap)
		}
	}
}

// fill fills the buffer up to two packets, or what is left of the file. io.EOF means that nothing
// is left.
func (t *Reader) fill() error {
	if int64(len(t.buf)-t.off) > 2*t.packet {
		return nil
	}
	t.pos += int64(t.off)
	rest := copy(t.buf, t.buf[t.off:])
	if cap(t.buf) < readWindow {
		t.buf = append(make([]byte, 0, readWindow), t.buf[:rest]...)
	}
	t.buf, t.off = t.buf[:rest], 0
	n := min(int64(readWindow-rest), t.size-t.pos-int64(rest))
	if n > 0 {
		got, err := t.r.ReadAt(t.buf[rest:rest+int(n)], t.pos+int64(rest))
		if got == 0 && err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		t.buf = t.buf[:rest+got]
	}
	if len(t.buf) == 0 {
		return io.EOF
	}
	return nil
}

// readerAt returns a reader of the same file that starts at offset pos.
func (t *Reader) readerAt(pos int64) *Reader {
	r := *t
	r.demux = t.demux.restartAt(int64(t.first.Seconds() * clockRate))
	r.pos, r.buf, r.off, r.outOfSync, r.ended, r.ahead = pos, nil, 0, true, false, nil
	return &r
}

// lastTime returns the end of the last frame near the end of the file.
func (t *Reader) lastTime() time.Duration {
	tail, latest := t.readerAt(max(0, t.size-tailWindow)), t.first
	for {
		m, err := tail.read()
		if err != nil {
			return max(latest, seconds(tail.demux.latest))
		}
		latest = max(latest, m.PTS+m.Duration)
	}
}

// Seek moves to the last keyframe at or before a time since the start, or to the first one after it
// if there is none in the 12 seconds before.
func (t *Reader) Seek(to time.Duration) error {
	const before = 12 * time.Second
	low, err := t.searchStart(to - before)
	if err != nil {
		return err
	}
	scan, key := t.readerAt(low), low
	for {
		m, err := scan.read()
		if err == io.EOF || m != nil && m.PTS > t.first+to {
			break
		}
		if err != nil {
			return err
		}
		if t.isStart(m) {
			key = scan.framePos
		}
	}
	n := t.readerAt(key)
	for {
		m, err := n.read()
		if err != nil && err != io.EOF {
			return err
		}
		if m != nil && !t.isStart(m) {
			continue
		}
		*t = *n
		if m != nil {
			t.ahead = []*media.Frame{m}
		}
		return nil
	}
}

// isStart reports whether playback can start at m.
func (t *Reader) isStart(m *media.Frame) bool {
	for _, s := range t.streams {
		if s.Track.Kind == media.Video && s.Track.Codec != media.Passthrough {
			return m.Track.Kind == media.Video && m.RAP != media.NoRandomAccess
		}
	}
	return true
}

// searchStart returns an offset such that frames before it are earlier than a time since the start,
// as far as times rise.
func (t *Reader) searchStart(to time.Duration) (int64, error) {
	low, high := int64(0), t.size
	for to > 0 && high-low > maxProbe {
		mid := low + (high-low)/2
		m, err := t.readerAt(mid).read()
		if err != nil && err != io.EOF {
			return 0, err
		}
		if m == nil || m.DTS-t.first > to {
			high = mid
		} else {
			low = mid
		}
	}
	return low, nil
}
