package es

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"livego/internal/codec"
	"livego/internal/codec/ac3"
	"livego/internal/codec/mp3"
	"livego/internal/media"
)

// A Reader reads the frames of a file that is a single elementary stream. Not for concurrent use.
type Reader struct {
	r          io.ReaderAt
	start, end int64 // of the stream, without tags
	pos        int64
	split      Splitter
	base       time.Duration // time of the last sample rate change
	samples    int64         // samples since then
	rate       int
	stream     media.Stream
	indexFrame []byte // the first frame, if it is an index
	hasIndex   bool   // the first frame is an index (Xing, Info or VBRI) without audio
}

const (
	window        = 64 << 10
	maxTags       = 16       // consecutive ID3v2 tags
	maxSkipped    = 64 << 10 // bytes before the first frame
	sampledFrames = 256      // frames that the bitrate is estimated from
)

// Detect returns the codec of the elementary stream that b starts with, after any ID3 tags that end
// within b; Passthrough if there is none. It expects frame headers one frame length apart, up to
// four or the end of b.
func Detect(b []byte) media.Codec {
	for n := 0; n < maxTags; n++ {
		size, ok := id3(b)
		if !ok {
			break
		}
		if size >= int64(len(b)) {
			return media.MP3 // only MP3 files have such large tags
		}
		b = b[size:]
	}
	for _, c := range []media.Codec{media.AAC, media.AC3, media.MP3} {
		s := Splitter{Codec: c}
		for at, n := 0, 0; ; n++ {
			size, err := s.headerLength(b[at:])
			if err != nil || size == 0 {
				break
			}
			if at += size; n == 3 || at >= len(b) && n > 0 || at == len(b) {
				return dolbyVariant(c, b)
			}
			if at > len(b) {
				break
			}
		}
	}
	return media.Passthrough
}

// dolbyVariant distinguishes AC-3 from Enhanced AC-3.
func dolbyVariant(c media.Codec, b []byte) media.Codec {
	if f, err := ac3.ParseFrame(b); c == media.AC3 && err == nil && f.Enhanced {
		return media.EAC3
	}
	return c
}

// id3 returns the size of the ID3v2 tag that b starts with (ID3v2.4 section 3.1).
func id3(b []byte) (int64, bool) {
	if len(b) < 10 || string(b[:3]) != "ID3" || (b[6]|b[7]|b[8]|b[9])&0x80 != 0 {
		return 0, false
	}
	size := int64(b[6])<<21 | int64(b[7])<<14 | int64(b[8])<<7 | int64(b[9])
	size += 10
	if b[5]&0x10 != 0 { // footer
		size += 10
	}
	return size, true
}

// NewReader opens a file of size bytes and finds its first frame.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	f := &Reader{r: r, end: size}
	head, err := f.skipTags()
	if err != nil {
		return nil, err
	}
	f.trimID3v1()
	head = head[:min(int64(len(head)), max(f.end-f.start, 0))]
	c := media.Passthrough
	for skipped := 0; skipped < min(len(head), maxSkipped) && c == media.Passthrough; skipped++ {
		if c = Detect(head[skipped:]); c != media.Passthrough {
			f.start += int64(skipped)
		}
	}
	if c == media.Passthrough {
		return nil, errors.New("es: no ADTS, MPEG audio or AC-3 frames")
	}
	f.split.Codec = c
	f.rewind()
	return f, f.probe()
}

// skipTags skips ID3v2 tags at the start, and returns the bytes that follow.
func (f *Reader) skipTags() ([]byte, error) {
	b := make([]byte, 2*window)
	for range maxTags {
		n, err := f.r.ReadAt(b, f.start)
		if n == 0 && err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		size, ok := id3(b[:n])
		if !ok {
			return b[:n], nil
		}
		f.start = min(f.start+size, f.end)
	}
	return nil, errors.New("es: too many ID3 tags")
}

// trimID3v1 excludes an ID3v1 tag at the end.
func (f *Reader) trimID3v1() {
	const size = 128
	var b [3]byte
	if f.end-f.start < size {
		return
	}
	if _, err := f.r.ReadAt(b[:], f.end-size); err == nil && string(b[:]) == "TAG" {
		f.end -= size
	}
}

func (f *Reader) rewind() {
	f.pos, f.base, f.samples = f.start, 0, 0
	f.split.Reset()
	f.split.Ended, f.split.Skipped = false, 0
	if f.hasIndex {
		f.split.synced = true
		f.pos += int64(len(f.indexFrame))
	}
}

// probe reads some frames to find the track and its duration: by the index frame, or estimated from
// the bitrate of the first frames.
func (f *Reader) probe() error {
	first, err := f.Next()
	if f.split.OtherCodec != "" {
		f.stream.Track = &media.Track{Kind: media.Audio, Label: f.split.OtherCodec, Timescale: 90000}
		return nil
	}
	if err != nil {
		if err == io.EOF {
			err = errors.New("es: no complete frame")
		}
		return err
	}
	f.stream.Track = first.Track
	if f.split.Codec == media.MP3 {
		if frames, ok := indexDuration(first.Payload); ok {
			f.indexFrame, f.hasIndex = first.Payload, true
			f.stream.Duration = frames
		}
	}
	size, n := int64(0), 0
	for f.rewind(); n < sampledFrames; n++ {
		m, err := f.Next()
		if err != nil {
			break
		}
		if n == 0 {
			f.stream.Track = m.Track
		}
		size += int64(len(m.Payload))
	}
	elapsed := f.now()
	if read := f.pos - f.start - int64(f.split.Buffered()); f.stream.Duration == 0 && read > 0 {
		f.stream.Duration = time.Duration(float64(elapsed) * float64(f.end-f.start) / float64(read))
	}
	if elapsed > 0 {
		f.stream.Bytes = int64(float64(size) * float64(f.stream.Duration) / float64(elapsed))
	}
	f.rewind()
	return nil
}

// indexDuration returns the duration that an index frame declares: Xing's, LAME's Info, or
// Fraunhofer's VBRI.
func indexDuration(frame []byte) (time.Duration, bool) {
	h, err := mp3.ParseHeader(frame)
	if err != nil {
		return 0, false
	}
	side := 32 // bytes of side information after the header
	switch {
	case h.Samples == 576 && h.Channels == 1:
		side = 9
	case h.Samples == 576 || h.Channels == 1:
		side = 17
	}
	for _, at := range []int{4 + side, 4 + side + 2} { // with a CRC
		if len(frame) < at+12 {
			continue
		}
		if b := frame[at:]; bytes.HasPrefix(b, []byte("Xing")) || bytes.HasPrefix(b, []byte("Info")) {
			n := uint32(0)
			if b[7]&1 != 0 {
				n = binary.BigEndian.Uint32(b[8:])
			}
			return framesDuration(n, h), true
		}
	}
	const vbri = 4 + 32
	if len(frame) >= vbri+18 && string(frame[vbri:vbri+4]) == "VBRI" {
		return framesDuration(binary.BigEndian.Uint32(frame[vbri+14:]), h), true
	}
	return 0, false
}

func framesDuration(frames uint32, h mp3.Header) time.Duration {
	return time.Duration(int64(frames) * int64(h.Samples) * int64(time.Second/1000) / int64(h.SampleRate) * 1000)
}

// Streams returns the only stream. Its duration comes from an index frame, or is estimated from the
// bitrate of the first frames.
func (f *Reader) Streams() []media.Stream { return []media.Stream{f.stream} }

// Duration returns the duration of the stream.
func (f *Reader) Duration() time.Duration { return f.stream.Duration }

// Skipped returns how many bytes belonged to no frame.
func (f *Reader) Skipped() int64 { return f.split.Skipped }

// Next returns the next frame, io.EOF after the last.
func (f *Reader) Next() (*media.Frame, error) {
	for {
		t, payload, ok := f.split.Next()
		if ok {
			return f.frame(t, payload), nil
		}
		if f.split.Ended {
			return nil, io.EOF
		}
		b := make([]byte, min(window, f.end-f.pos))
		n, err := f.r.ReadAt(b, f.pos)
		if n == 0 && len(b) > 0 && err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		f.pos += int64(n)
		f.split.Write(b[:n])
		f.split.Ended = n == 0 || f.pos >= f.end
	}
}

func (f *Reader) frame(t *media.Track, payload []byte) *media.Frame {
	if rate := max(t.SampleRate, 1); rate != f.rate {
		f.base, f.samples, f.rate = f.now(), 0, rate
	}
	m := &media.Frame{Track: t, DTS: f.now(), PTS: f.now(), RAP: media.Keyframe, KeyFlag: true, Payload: payload}
	f.samples += int64(codec.Samples(t, payload))
	m.Duration = f.now() - m.DTS
	return m
}

// now returns the time of the next frame.
func (f *Reader) now() time.Duration { return f.base + samplesDuration(f.samples, max(f.rate, 1)) }

// samplesDuration returns the duration of a number of samples, to the nanosecond and without
// overflow.
func samplesDuration(samples int64, rate int) time.Duration {
	r := int64(rate)
	return time.Duration(samples/r)*time.Second + time.Duration(samples%r)*time.Second/time.Duration(r)
}

// Seek moves to the first frame at or after a time. It reads the file from the start.
func (f *Reader) Seek(to time.Duration) error {
	f.rewind()
	for {
		if f.now() >= to {
			return nil
		}
		if _, err := f.Next(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
}
