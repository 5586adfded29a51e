package mkv

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"livego/internal/codec"
	"livego/internal/media"
)

// A Reader reads the frames of a file in file order. Except for Seek, it never reads at a lower
// offset than before, so it can read a file that is still arriving. Not for concurrent use.
type Reader struct {
	file
	docType  string
	tracks   []*track
	segment  element
	first    int64 // offset of the first cluster
	scale    int64 // nanoseconds per tick of the segment
	duration float64

	pos     int64   // offset of the next element
	cluster element // the current cluster, until pos reaches its end
	base    int64   // timestamp of the cluster, in ticks
	ready   []*media.Frame

	skipped  uint64     // invalid blocks
	firstBad blockError // the first of them
}

const (
	maxFrame = 16 << 20
	maxReady = 512  // frames that wait for a decoding time
	maxHead  = 4096 // bytes of a cluster that are searched for its timestamp
)

// NewReader reads the head of a file of size bytes, up to its first cluster.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	m := &Reader{file: file{r, size}, scale: 1e6}
	if err := m.open(); err != nil {
		if errors.Is(err, errTruncated) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if len(m.tracks) == 0 {
		return nil, errors.New("mkv: no video or audio in the file")
	}
	m.rewind(m.first)
	return m, nil
}

func (r *Reader) open() error {
	head, err := r.element(0, r.size)
	if err != nil && !errors.Is(err, errTruncated) {
		return err
	}
	if head.id != idEBML {
		return errors.New("mkv: no EBML header")
	}
	if err := r.walk(head.off, head.end, func(e element) (err error) {
		if e.id == idDocType {
			r.docType, err = r.text(e)
		}
		return err
	}); err != nil {
		return err
	}
	for off := head.end; ; off = r.segment.end { // Void elements may precede it
		if r.segment, err = r.element(off, r.size); err != nil && r.segment.id != idSegment {
			return err
		}
		if r.segment.id == idSegment {
			break
		}
	}
	r.first = r.size
	for off := r.segment.off; off < r.segment.end; {
		e, err := r.element(off, r.segment.end)
		if e.id == idCluster {
			r.first = off
			return nil
		}
		if err != nil {
			return err
		}
		switch e.id {
		case idInfo:
			err = r.readInfo(e)
		case idTracks:
			err = r.readTracks(e)
		}
		if err != nil {
			return err
		}
		off = e.end
	}
	return nil
}

func (r *Reader) readInfo(info element) error {
	return r.walk(info.off, info.end, func(e element) error {
		var err error
		switch e.id {
		case idTimestampScale:
			var n uint64
			if n, err = r.number(e); err == nil && (n == 0 || n > 1e12) {
				err = errors.New("mkv: invalid TimestampScale")
			}
			r.scale = int64(n)
		case idDuration:
			r.duration, err = r.float(e)
		}
		return err
	})
}

// DocType returns "matroska" or "webm".
func (r *Reader) DocType() string { return r.docType }

// Duration returns the duration that the file declares, 0 if there is none: killed recorders omit
// it.
func (r *Reader) Duration() time.Duration {
	ns := r.duration * float64(r.scale)
	if !(ns > 0 && ns < math.MaxInt64/4) {
		return 0
	}
	return time.Duration(ns)
}

// Streams returns the tracks that the file declares, in file order.
func (r *Reader) Streams() []media.Stream {
	out := make([]media.Stream, len(r.tracks))
	for i, t := range r.tracks {
		out[i] = t.stream
		out[i].Duration = r.Duration()
	}
	return out
}

func (r *Reader) rewind(pos int64) {
	r.pos, r.cluster = pos, element{}
	r.restart()
}

// restart discards the ready frames, and restarts the generation of decoding times.
func (r *Reader) restart() {
	r.ready = nil
	for _, t := range r.tracks {
		t.dts = dtsGenerator{}
	}
}

// Next returns the next frame, io.EOF after the last. Matroska has presentation times only:
// decoding times are generated for codecs that reorder frames.
func (r *Reader) Next() (*media.Frame, error) {
	for {
		if f := r.nextReady(false); f != nil {
			return f, nil
		}
		if err := r.readNext(); err != nil {
			if f := r.nextReady(true); f != nil {
				return f, nil // frames before the error are returned first
			}
			return nil, err
		}
	}
}

// nextReady returns the first of the ready frames, nil while its decoding time is not known. At the
// end of the file, all frames are ready.
func (r *Reader) nextReady(end bool) *media.Frame {
	if len(r.ready) == 0 {
		return nil
	}
	f := r.ready[0]
	if t := r.trackOf(f); t.reorders() {
		var ok bool
		if f.DTS, ok = t.dts.next(end || len(r.ready) > maxReady); !ok {
			return nil
		}
		f.DTS = min(f.DTS, f.PTS)
	}
	r.ready = r.ready[1:]
	return f
}

// reorders reports whether the codec of t may decode frames in another order than it presents them.
func (t *track) reorders() bool { return codec.HasParameterSets(t.track.Codec) }

func (r *Reader) trackOf(f *media.Frame) *track {
	for _, t := range r.tracks {
		if t.track.Kind == f.Track.Kind && t.track.ID == f.Track.ID {
			return t
		}
	}
	return nil
}

// readNext reads the frames of the next block into ready. io.EOF is the end of the segment.
func (r *Reader) readNext() error {
	for {
		if r.pos >= r.segment.end || r.pos >= r.size {
			return io.EOF
		}
		end := r.segment.end
		inCluster := r.cluster.id == idCluster && r.pos < r.cluster.end
		if inCluster {
			end = r.cluster.end
		}
		e, err := r.element(r.pos, end)
		if errors.Is(err, errTruncated) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		r.pos = e.end
		switch e.id {
		case idCluster:
			r.cluster, r.pos = e, e.off
		case idTimestamp:
			n, err := r.number(e)
			if err != nil {
				return err
			}
			r.base = int64(min(n, math.MaxInt64/4))
		case idSimpleBlock:
			t, b, err := r.readBlock(e)
			if t != nil {
				err = r.unpack(t, b, nil)
			}
			return r.countBadBlock(err)
		case idBlockGroup:
			return r.countBadBlock(r.readGroup(e))
		}
	}
}

// A blockError is why a block is invalid. Reading continues after it.
type blockError string

func (e blockError) Error() string { return string(e) }

func tooLarge(size int64) blockError {
	return blockError(fmt.Sprintf("mkv: block of %d bytes exceeds the limit of %d", size, maxFrame))
}

// countBadBlock counts a blockError, and returns any other error.
func (r *Reader) countBadBlock(err error) error {
	bad, ok := errors.AsType[blockError](err)
	if !ok {
		return err
	}
	if r.skipped++; r.firstBad == "" {
		r.firstBad = bad
	}
	return nil
}

// Problems describes what was skipped so far, "" if nothing.
func (r *Reader) Problems() string {
	if r.skipped == 0 {
		return ""
	}
	return fmt.Sprintf("%d invalid blocks, the first: %v", r.skipped, r.firstBad)
}

// readGroup reads a BlockGroup: a block and its attributes.
func (r *Reader) readGroup(group element) error {
	var t *track
	var block []byte
	g := &blockGroup{key: true}
	err := r.walk(group.off, group.end, func(e element) (err error) {
		switch e.id {
		case idBlock:
			t, block, err = r.readBlock(e)
		case idReferenceBlock:
			g.key = false
		case idBlockDuration:
			var n uint64
			if n, err = r.number(e); n < uint64(math.MaxInt64/4/r.scale) {
				g.duration = time.Duration(int64(n) * r.scale)
			}
		}
		return err
	})
	if err != nil || t == nil {
		return err
	}
	return r.unpack(t, block, g)
}

// A blockGroup holds the attributes that a BlockGroup gives its block.
type blockGroup struct {
	key      bool
	duration time.Duration
}

// readBlock reads a block, from its timestamp on (RFC 9559 section 10). The track is nil if its
// frames are not read.
func (r *Reader) readBlock(e element) (*track, []byte, error) {
	if e.size() > maxFrame {
		return nil, nil, tooLarge(e.size())
	}
	var head [16]byte
	h := head[:min(int64(len(head)), e.size())]
	if err := r.read(h, e.off); err != nil {
		return nil, nil, err
	}
	number, used, err := varInt(h)
	if err != nil || len(h) < used+3 {
		return nil, nil, blockError("mkv: malformed block")
	}
	t := r.track(number)
	if t == nil || t.stream.Track.Codec == media.Passthrough {
		return nil, nil, nil
	}
	b, err := r.content(e, maxFrame)
	if err != nil {
		return nil, nil, err
	}
	return t, b[used:], nil
}

// unpack decodes the frames of a block of t. attrs is nil for a SimpleBlock, which has its own
// keyframe flag.
func (r *Reader) unpack(t *track, b []byte, attrs *blockGroup) error {
	flags := b[2]
	ticks := r.base + int64(int16(uint16(b[0])<<8|uint16(b[1])))
	if ticks > math.MaxInt64/4/r.scale || ticks < -(1<<16) {
		return blockError("mkv: timestamp out of range")
	}
	frames, err := splitLace(b[3:], flags>>1&3)
	if err != nil {
		return err
	}
	at := time.Duration(ticks*r.scale) - t.delay
	if attrs == nil {
		attrs = &blockGroup{key: flags&0x80 != 0}
	}
	for i, payload := range frames {
		f, err := r.frame(t, payload, at, attrs.key)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		f.Duration = attrs.duration / time.Duration(len(frames))
		f.Duration = cmp.Or(f.Duration, codec.Duration(f.Track, f.Payload), t.defaultDuration)
		if i > 0 && f.Duration == 0 {
			return blockError("mkv: laced frames without a duration")
		}
		at += f.Duration
		r.ready = append(r.ready, f)
	}
	return nil
}

// frame returns the frame with that payload, nil if it is empty.
func (r *Reader) frame(t *track, payload []byte, at time.Duration, key bool) (*media.Frame, error) {
	if len(payload)+len(t.strippedHeader) == 0 {
		return nil, nil
	}
	if len(t.strippedHeader) > 0 {
		payload = slices.Concat(t.strippedHeader, payload)
	}
	if codec.SelfDescribing(t.track.Codec) {
		// keep the track if the frame is invalid
		if now, err := codec.TrackFromFrame(t.fileTrack, payload, t.frameTrack); err == nil {
			t.track, t.frameTrack = now, now
		}
	}
	f := &media.Frame{Track: t.track, DTS: at, PTS: at, KeyFlag: key, Payload: payload}
	f.RAP, f.Leading, _ = codec.RandomAccess(t.track, t.lengthSize, key, payload) // checked again when it is published
	if t.reorders() {
		t.dts.add(at)
	}
	return f, nil
}

// track returns the track with that number, nil if there is none.
func (r *Reader) track(number uint64) *track {
	for _, t := range r.tracks {
		if t.number == number {
			return t
		}
	}
	return nil
}

// Kinds of lacing.
const (
	lacingNone = iota
	lacingXiph
	lacingFixed
	lacingEBML
)

var errLace error = blockError("mkv: malformed lacing")

// splitLace splits the content of a block into frames (RFC 9559 section 10.3), which are slices of
// b.
func splitLace(b []byte, kind byte) ([][]byte, error) {
	if kind == lacingNone {
		return [][]byte{b}, nil
	}
	if len(b) == 0 {
		return nil, errLace
	}
	n := int(b[0]) + 1
	b = b[1:]
	if kind == lacingFixed {
		if len(b)%n != 0 {
			return nil, errLace
		}
		var out [][]byte
		for size := len(b) / n; len(out) < n; b = b[size:] {
			out = append(out, b[:size])
		}
		return out, nil
	}
	sizes := make([]int, 0, n)
	for i := range n - 1 {
		size, used, err := laceSize(b, kind, i > 0)
		if err != nil {
			return nil, err
		}
		if kind == lacingEBML && i > 0 {
			size += sizes[i-1]
		}
		if b = b[used:]; size < 0 || size > maxFrame {
			return nil, errLace
		}
		sizes = append(sizes, size)
	}
	out := make([][]byte, 0, n)
	for _, size := range sizes {
		if size > len(b) {
			return nil, errLace
		}
		out = append(out, b[:size])
		b = b[size:]
	}
	return append(out, b), nil
}

// laceSize reads one frame size of a lace. In EBML lacing, all but the first are differences.
func laceSize(b []byte, kind byte, difference bool) (size, used int, err error) {
	if kind == lacingXiph {
		for used < len(b) {
			c := b[used]
			used++
			if size += int(c); c != 0xFF {
				return size, used, nil
			}
		}
		return 0, 0, errLace
	}
	v, used, err := varInt(b)
	if err != nil || v > 1<<32 {
		return 0, 0, errLace
	}
	if difference {
		return int(v) - (1<<(7*used-1) - 1), used, nil
	}
	return int(v), used, nil
}

// Seek moves to the last video keyframe at or before a time, with the blocks that follow it in the
// file; without video to the cluster of that time. It reads the start of each cluster only.
func (r *Reader) Seek(to time.Duration) error {
	starts := []int64{r.first}
	for off := r.first; off < r.segment.end; {
		e, err := r.element(off, r.segment.end)
		if err != nil {
			break // a truncated file ends here
		}
		if e.id == idCluster {
			if at, ok := r.clusterTime(e); ok && at > to {
				break
			}
			if starts = append(starts, off); e.unknown {
				break // the next cluster cannot be found
			}
		}
		off = e.end
	}
	for i := len(starts) - 1; ; i-- {
		if i < 0 {
			r.rewind(r.first)
			return nil
		}
		if ok, err := r.seekInCluster(starts[i], to); ok || err != nil {
			return err
		}
	}
}

// clusterTime returns the timestamp of a cluster, which is near its start.
func (r *Reader) clusterTime(c element) (at time.Duration, ok bool) {
	_ = r.walk(c.off, min(c.end, c.off+maxHead), func(e element) error { // only the timestamp is needed
		if e.id != idTimestamp || ok {
			return nil
		}
		n, err := r.number(e)
		if n < uint64(math.MaxInt64/4/r.scale) {
			at, ok = time.Duration(int64(n)*r.scale), err == nil
		}
		return err
	})
	return at, ok
}

// searchMargin is how far behind a target its keyframe is searched in clusters of unknown size.
const searchMargin = 10 * time.Second

// seekInCluster moves to the last keyframe at or before a time in the cluster at off, if there is
// one.
func (r *Reader) seekInCluster(off int64, to time.Duration) (bool, error) {
	pictures := slices.ContainsFunc(r.tracks,
		func(t *track) bool { return t.track.Kind == media.Video && t.track.Codec != media.Passthrough })
	scan := func(stop int) (keys int, err error) {
		r.rewind(off)
		end := int64(-1)
		for {
			if end >= 0 && r.pos >= end {
				return keys, nil
			}
			err := r.readNext()
			if end < 0 {
				end = r.cluster.end
			}
			if err != nil {
				if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
					err = nil
				}
				return keys, err
			}
			for i, f := range r.ready {
				if f.PTS > to+searchMargin {
					return keys, nil
				}
				isStart := f.RAP == media.Keyframe && f.PTS <= to && (f.Track.Kind == media.Video) == pictures
				if !isStart {
					continue
				}
				if keys++; keys == stop {
					r.dropBefore(i)
					return keys, nil
				}
			}
			r.ready = nil
		}
	}
	keys, err := scan(0)
	if err != nil || keys == 0 {
		return false, err
	}
	_, err = scan(keys)
	return true, err
}

// dropBefore discards the ready frames before frame i.
func (r *Reader) dropBefore(i int) {
	ready := slices.Clone(r.ready[i:])
	r.restart()
	r.ready = ready
	for _, f := range r.ready {
		if t := r.trackOf(f); t.reorders() {
			t.dts.add(f.PTS)
		}
	}
}
