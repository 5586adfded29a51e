package flv

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"livego/internal/media"
)

// A File reads the frames of an FLV file. Not for concurrent use.
type File struct {
	r     io.ReaderAt
	size  int64
	tags  *Reader
	base  int64 // of the first byte that tags has read
	demux Demuxer

	probed  []*media.Frame // read while looking for tracks
	pending []*media.Frame // of the newest pending, that have not been returned
	streams []media.Stream
	last    time.Duration // of the last tag; 0 where its end cannot be read
	first   time.Duration

	Skips *media.Skips // of its tracks

	// Skipped counts tags that made no sense, and stretches without one; FirstError says why the first did not.
	Skipped    uint64
	FirstError error
}

const (
	maxFileTag   = 16 << 20 // bytes; the format's own limit
	readWindow   = 64 << 10
	maxProbeTags = 2000 // tags that are looked at for tracks
	maxProbeTime = 5 * time.Second
	maxProbeSize = 16 << 20 // bytes of frames that wait meanwhile
	maxResync    = 64 << 20 // bytes in which a tag is looked for
)

// OpenFile reads the head of an FLV file of size bytes, as far as is needed to know its tracks.
func OpenFile(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size, Skips: new(media.Skips)}
	f.demux.Skips = f.Skips
	f.restart(0, false)
	if err := f.probe(); err != nil && !errors.Is(err, io.EOF) && len(f.streams) == 0 {
		return nil, err
	}
	if len(f.streams) == 0 {
		return nil, errors.New("flv: neither pictures nor sound in it")
	}
	f.last = f.lastTimestamp()
	return f, nil
}

// restart reads tags from off on.
func (f *File) restart(off int64, begun bool) {
	tags := NewReader(bufio.NewReaderSize(io.NewSectionReader(f.r, off, f.size-off), readWindow), maxFileTag)
	if tags.headerRead = begun; f.tags != nil {
		tags.Anomalies, tags.first, tags.stream = f.tags.Anomalies, f.tags.first, f.tags.stream
	}
	f.tags, f.pending, f.base = tags, nil, off
}

// Anomalies returns what was accepted so far that the format does not know.
func (f *File) Anomalies() Anomalies { return f.tags.Anomalies }

// probe reads frames until each track that the file announces has shown itself.
func (f *File) probe() error {
	size := 0
	for range maxProbeTags {
		m, err := f.read()
		if err != nil {
			return err
		}
		f.probed = append(f.probed, m)
		size += len(m.Payload)
		if f.first = f.probed[0].DTS; !f.hasStream(m.Track) {
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

func (f *File) hasStream(t *media.Track) bool {
	for _, s := range f.streams {
		if s.Track.Kind == t.Kind {
			return true
		}
	}
	return t.Kind == media.Data
}

// lastTimestamp returns the time of the last tag, which the file's last four bytes before padding lead to.
func (f *File) lastTimestamp() time.Duration {
	end := f.paddingStart()
	for n := range int64(4) { // its PreviousTagSize may end in zero bytes
		if at, ok := f.tagBefore(min(end+n, f.size)); ok {
			return at
		}
	}
	return 0
}

// paddingStart returns where the zero bytes begin that the file ends with.
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

// tagBefore returns the time of the tag that ends at end, PreviousTagSize included.
func (f *File) tagBefore(end int64) (time.Duration, bool) {
	var b [tagHeaderSize]byte
	if _, err := f.r.ReadAt(b[:4], end-4); err != nil && !errors.Is(err, io.EOF) {
		return 0, false
	}
	said := int64(binary.BigEndian.Uint32(b[:]))
	for _, length := range []int64{said, said + tagHeaderSize} { // of some writers, which count the body alone
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

// Streams returns what is known of the tracks from the head of the file.
func (f *File) Streams() []media.Stream { return f.streams }

// Duration returns the distance of the last tag from the first, 0 for a file whose end is cut.
func (f *File) Duration() time.Duration { return max(f.last-f.first, 0) }

// Next returns the next frame, io.EOF after the last and io.ErrUnexpectedEOF within a tag. What
// makes no sense is counted and passed over.
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

// resync goes to the next tag after a place where none is: one whose length is said behind it too.
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

// isTag reports whether head, at off, is that of a tag with its PreviousTagSize.
func (f *File) isTag(head []byte, off int64) bool {
	if !isTagHeader(head, f.tags.stream) {
		return false
	}
	size := uint24(head[1:])
	var b [4]byte
	_, err := f.r.ReadAt(b[:], off+tagHeaderSize+int64(size))
	said := binary.BigEndian.Uint32(b[:])
	bare := said == size && f.tags.Anomalies.WrongSizes > 0 // of a writer that counts the body alone
	return (err == nil || errors.Is(err, io.EOF)) && (said == tagHeaderSize+size || bare)
}

func (f *File) skip(err error) {
	if f.Skipped++; f.FirstError == nil {
		f.FirstError = err
	}
}

// demuxTag takes one tag, which may hold frames of several tracks. Configurations come as often as
// the file likes: its own clock counts, not ours.
func (f *File) demuxTag(t Tag) ([]*media.Frame, error) {
	at := time.Unix(0, 0).Add(time.Duration(t.Timestamp) * time.Millisecond)
	ms, err := f.demux.Message(t.Type, t.Timestamp, t.Body, at)
	if errors.Is(err, ErrSkip) {
		f.skip(err)
		err = nil
	}
	return ms, err
}

// Seek goes to the last key frame at or before a time since the first frame; without pictures to
// the first tag at that time. It goes from tag to tag, reading their heads alone.
func (f *File) Seek(to time.Duration) error {
	f.demux.clock = unwrapper{}
	f.demux.clock.advance(uint32(f.first / time.Millisecond))
	pictures := false
	for _, s := range f.streams {
		pictures = pictures || s.Track.Kind == media.Video
	}
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
	// Configurations before that place are in force there.
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

// scanTags calls visit for each tag before end, with the length and the first bytes of its body; false ends it.
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

// isKeyframeBody reports whether the first bytes of a video body are those of a frame that is said to be a key frame.
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

// isConfig reports whether a tag, of which the first bytes are at hand, configures a codec or is metadata.
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
