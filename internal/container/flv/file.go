package flv

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"

	"livego/internal/media"
)

// A File reads the frames of an FLV file. Not for concurrent use.
type File struct {
	r     io.ReaderAt
	size  int64
	tags  *Reader
	base  int64 // offset at which tags started
	demux Demuxer

	probed  []*media.Frame // read by probe, not yet returned
	pending []*media.Frame // of the current tag, not yet returned
	streams []media.Stream
	last    time.Duration // time of the last tag; 0 if unknown
	first   time.Duration

	Skips *media.Skips // of all tracks

	// Skipped counts tags that were invalid, and gaps without a tag; FirstError is the reason for
	// the first.
	Skipped    uint64
	FirstError error
}

const (
	maxFileTag   = 16 << 20 // bytes; the format's own limit
	readWindow   = 64 << 10
	maxProbeTags = 2000 // tags read by probe
	maxProbeTime = 5 * time.Second
	maxProbeSize = 16 << 20 // bytes of frames held by probe
	maxResync    = 64 << 20 // bytes searched for the next tag
)

// OpenFile opens an FLV file of size bytes and reads as much as is needed to find its tracks.
func OpenFile(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size, Skips: new(media.Skips)}
	f.demux.Skips = f.Skips
	f.restart(0, false)
	if err := f.probe(); err != nil && !errors.Is(err, io.EOF) && len(f.streams) == 0 {
		return nil, err
	}
	if len(f.streams) == 0 {
		return nil, errors.New("flv: no video or audio in the file")
	}
	f.last = f.lastTimestamp()
	return f, nil
}

// restart continues reading at offset off.
func (f *File) restart(off int64, begun bool) {
	tags := NewReader(bufio.NewReaderSize(io.NewSectionReader(f.r, off, f.size-off), readWindow), maxFileTag)
	if tags.headerRead = begun; f.tags != nil {
		tags.Anomalies, tags.first, tags.stream = f.tags.Anomalies, f.tags.first, f.tags.stream
	}
	f.tags, f.pending, f.base = tags, nil, off
}

// Anomalies returns the deviations from the format that were accepted so far.
func (f *File) Anomalies() Anomalies { return f.tags.Anomalies }

// probe reads frames until every announced track has appeared.
func (f *File) probe() error {
	size := 0
	for range maxProbeTags {
		m, err := f.read()
		if err != nil {
			return err
		}
		f.probed = append(f.probed, m)
		size += len(m.Payload)
		if f.first = f.probed[0].DTS; m.Track.Kind != media.Data && !f.hasKind(m.Track.Kind) {
			f.streams = append(f.streams, media.Stream{Track: m.Track})
		}
		announced := 2
		if m.Meta != nil && m.Meta.HasVideo != m.Meta.HasAudio {
			announced = 1
		}
		if len(f.streams) >= announced || m.DTS-f.first > maxProbeTime || size > maxProbeSize {
			return nil
		}
	}
	return nil
}

func (f *File) hasKind(k media.Kind) bool {
	return slices.ContainsFunc(f.streams, func(s media.Stream) bool { return s.Track.Kind == k })
}

// lastTimestamp returns the time of the last tag, found by the last four bytes of the file before
// padding.
func (f *File) lastTimestamp() time.Duration {
	end := f.paddingStart()
	for n := range int64(4) { // PreviousTagSize itself may end in zero bytes
		if at, ok := f.tagBefore(min(end+n, f.size)); ok {
			return at
		}
	}
	return 0
}

// paddingStart returns the offset of the zero bytes at the end of the file.
func (f *File) paddingStart() int64 {
	window := make([]byte, readWindow)
	for end := f.size; end > 0 && f.size-end < maxPadding; {
		from := max(end-readWindow, 0)
		b := window[:end-from]
		if _, err := f.r.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return f.size
		}
		if b = bytes.TrimRight(b, "\x00"); len(b) > 0 {
			return from + int64(len(b))
		}
		end = from
	}
	return f.size
}

// tagBefore returns the time of the tag that ends at end, including its PreviousTagSize.
func (f *File) tagBefore(end int64) (time.Duration, bool) {
	var b [tagHeaderSize]byte
	if _, err := f.r.ReadAt(b[:4], end-4); err != nil && !errors.Is(err, io.EOF) {
		return 0, false
	}
	prevSize := int64(binary.BigEndian.Uint32(b[:]))
	for _, length := range []int64{prevSize, prevSize + tagHeaderSize} { // some writers count the body only
		at := end - 4 - length
		if at < fileHeaderSize+4 {
			continue
		}
		_, err := f.r.ReadAt(b[:], at)
		if err != nil || !isTagHeader(b[:], f.tags.stream) || int64(uint24(b[1:])) != length-tagHeaderSize {
			continue
		}
		clock := f.demux.clock
		return time.Duration(clock.at(timestampOf(b[:]))) * time.Millisecond, true
	}
	return 0, false
}

// Streams returns the tracks that were found at the start of the file.
func (f *File) Streams() []media.Stream { return f.streams }

// Duration returns the time from the first tag to the last, 0 for a truncated file.
func (f *File) Duration() time.Duration { return max(f.last-f.first, 0) }

// Next returns the next frame, io.EOF after the last and io.ErrUnexpectedEOF within a tag. Invalid
// data is counted and skipped.
func (f *File) Next() (*media.Frame, error) {
	if len(f.probed) > 0 {
		m := f.probed[0]
		f.probed = f.probed[1:]
		return m, nil
	}
	return f.read()
}

func (f *File) read() (*media.Frame, error) {
	for len(f.pending) == 0 {
		t, err := f.tags.Next()
		if err != nil {
			if errors.Is(err, io.EOF) || !f.resync() {
				return nil, err
			}
			f.skip(err)
			continue
		}
		if f.pending, err = f.demuxTag(t); err != nil {
			return nil, err
		}
	}
	m := f.pending[0]
	f.pending = f.pending[1:]
	return m, nil
}

// resync finds the next tag behind invalid data: one whose PreviousTagSize matches its length.
func (f *File) resync() bool {
	if !f.tags.headerRead {
		return false
	}
	window := make([]byte, readWindow)
	first := f.base + f.tags.at + 1
	for from := first; from < first+maxResync; from += readWindow - tagHeaderSize {
		n, err := f.r.ReadAt(window, from)
		for i := 0; i+tagHeaderSize <= n; i++ {
			if f.isTag(window[i:i+tagHeaderSize], from+int64(i)) {
				f.restart(from+int64(i), true)
				return true
			}
		}
		if err != nil {
			break
		}
	}
	return false
}

// isTag reports whether head, read at off, is the header of a tag with a matching PreviousTagSize.
func (f *File) isTag(head []byte, off int64) bool {
	if !isTagHeader(head, f.tags.stream) {
		return false
	}
	size := uint24(head[1:])
	var b [4]byte
	_, err := f.r.ReadAt(b[:], off+tagHeaderSize+int64(size))
	prevSize := binary.BigEndian.Uint32(b[:])
	bodyOnly := prevSize == size && f.tags.Anomalies.WrongSizes > 0 // the writer counts the body only
	return (err == nil || errors.Is(err, io.EOF)) && (prevSize == tagHeaderSize+size || bodyOnly)
}

func (f *File) skip(err error) {
	if f.Skipped++; f.FirstError == nil {
		f.FirstError = err
	}
}

// demuxTag decodes one tag, which may hold frames of several tracks. The limit of configuration
// changes is measured by the file's timestamps, so a file is read as fast as possible.
func (f *File) demuxTag(t Tag) ([]*media.Frame, error) {
	at := time.Unix(0, 0).Add(time.Duration(t.Timestamp) * time.Millisecond)
	frames, err := f.demux.Message(t.Type, t.Timestamp, t.Body, at)
	if errors.Is(err, ErrSkip) {
		f.skip(err)
		err = nil
	}
	return frames, err
}

// Seek moves to the last keyframe at or before a time since the first frame; without video to the
// last audio tag at or before it. It reads tag headers only.
func (f *File) Seek(to time.Duration) error {
	f.demux.clock = unwrapper{}
	f.demux.clock.advance(uint32(f.first / time.Millisecond))
	pictures := f.hasKind(media.Video)
	start := f.tags.first
	err := f.scanTags(f.size, func(off int64, _ int, t Tag) (bool, error) {
		at := time.Duration(f.demux.clock.at(t.Timestamp))*time.Millisecond - f.first
		switch {
		case t.Type != TypeScriptData && at > to:
			return false, nil
		case pictures && t.Type == TypeVideo && isKeyframeBody(t.Body), !pictures && t.Type == TypeAudio:
			start = off
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	// Apply the configurations before that position.
	err = f.scanTags(start, func(off int64, size int, t Tag) (bool, error) {
		if !isConfig(t) {
			return true, nil
		}
		t.Body = make([]byte, size)
		if _, err := f.r.ReadAt(t.Body, off+tagHeaderSize); err != nil {
			return false, unexpectedEOF(err)
		}
		_, err := f.demuxTag(t)
		return true, err
	})
	f.restart(start, true)
	f.probed = nil
	return err
}

// scanTags calls visit for each tag before end, with the size and the first bytes of its body,
// until visit returns false.
func (f *File) scanTags(end int64, visit func(off int64, size int, t Tag) (bool, error)) error {
	var b [tagHeaderSize + 6]byte
	for off := f.tags.first; off+tagHeaderSize <= end; {
		n, err := f.r.ReadAt(b[:], off)
		if n < tagHeaderSize {
			return unexpectedEOF(err)
		}
		size := int(uint24(b[1:]))
		t := Tag{Type: b[0], Timestamp: timestampOf(b[:]), Body: b[tagHeaderSize:min(n, tagHeaderSize+size)]}
		if more, err := visit(off, size, t); !more || err != nil {
			return err
		}
		off += int64(tagHeaderSize + size + 4)
	}
	return nil
}

func timestampOf(tag []byte) uint32 { return uint24(tag[4:]) | uint32(tag[7])<<24 }

// isKeyframeBody reports whether a video body with these first bytes is a frame that is marked as a
// keyframe.
func isKeyframeBody(head []byte) bool {
	if len(head) < 2 || isConfig(Tag{Type: TypeVideo, Body: head}) {
		return false
	}
	frameType := head[0] >> 4
	if head[0]&isEnhancedVideo != 0 {
		frameType &= 7
	}
	return isKeyframe(frameType)
}

// isConfig reports whether a tag, of which the first bytes are given, is a codec configuration or
// script data.
func isConfig(t Tag) bool {
	b := t.Body
	switch {
	case t.Type == TypeScriptData:
		return true
	case len(b) < 2:
		return false
	case t.Type == TypeVideo && b[0]&isEnhancedVideo != 0, t.Type == TypeAudio && b[0]>>4 == soundEnhanced:
		return b[0]&0xF == packetSequenceStart
	case t.Type == TypeVideo:
		return (b[0]&0xF == videoH264 || b[0]&0xF == videoHEVC) && b[1] == legacyHeader
	}
	return b[0]>>4 == soundAAC && b[1] == legacyHeader
}
