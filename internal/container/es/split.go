// Package es reads elementary audio streams: AAC in ADTS, MPEG audio layer III, AC-3 and Enhanced
// AC-3. It splits them into frames, as transport streams carry them, and reads them as files, with
// ID3 and other tags.
package es

import (
	"errors"

	"livego/internal/codec"
	"livego/internal/codec/aac"
	"livego/internal/codec/ac3"
	"livego/internal/codec/mp3"
	"livego/internal/media"
)

// A Splitter splits an elementary stream into frames, and resynchronizes after invalid data. The
// zero Splitter with a Codec is ready.
type Splitter struct {
	Codec media.Codec // AAC, MP3, AC3 or EAC3
	// OtherCodec is the actual codec if it is unsupported: MPEG audio of layers I and II. There are
	// no frames then.
	OtherCodec string
	Size       int   // bytes of the last frame, with its header
	Skipped    int64 // bytes that belonged to no frame
	Ended      bool  // no more data follows: the last frame needs no successor

	buf    []byte
	synced bool
	track  *media.Track
	adts   aac.ADTS
}

// headSize is how many bytes are needed to read a frame header of any of the codecs.
const headSize = 16

// Write appends a piece of the stream, which is copied.
func (s *Splitter) Write(b []byte) { s.buf = append(s.buf, b...) }

// Buffered returns how many bytes are buffered for an incomplete frame.
func (s *Splitter) Buffered() int { return len(s.buf) }

// Reset discards the buffered bytes, for a stream that continues elsewhere.
func (s *Splitter) Reset() { s.buf, s.synced = nil, false }

// Next returns the next frame as containers carry it (AAC without its ADTS header) and its track,
// which stays the same pointer until the stream changes. ok is false when more data is needed. The
// caller owns the payload.
func (s *Splitter) Next() (t *media.Track, payload []byte, ok bool) {
	for {
		if s.OtherCodec != "" {
			s.buf = nil
			return nil, nil, false
		}
		n, err := s.syncedLength()
		if err != nil {
			s.buf = s.buf[1:]
			s.Skipped++
			s.synced = false
			continue
		}
		if n == 0 {
			return nil, nil, false
		}
		whole := append([]byte(nil), s.buf[:n]...)
		s.buf = s.buf[n:]
		s.synced, s.Size = true, n
		if payload, err = s.describe(whole); err != nil {
			s.Skipped += int64(n)
			continue
		}
		return s.track, payload, true
	}
}

var errNotFrame = errors.New("es: not a frame")

// syncedLength returns the length of the frame at the start of the buffer, 0 if it is incomplete,
// or an error if there is none. While out of sync, a frame counts only if another follows.
func (s *Splitter) syncedLength() (int, error) {
	n, err := s.frameLength(s.buf)
	if err != nil || n == 0 || s.synced || s.Ended && n == len(s.buf) {
		return n, err
	}
	next, err := s.frameLength(s.buf[n:])
	if next == 0 && err == nil && len(s.buf)-n < headSize && !s.Ended {
		return 0, nil
	}
	return n, err
}

// frameLength returns the length of the frame that b starts with, 0 if b does not hold all of it.
func (s *Splitter) frameLength(b []byte) (int, error) {
	if len(b) < headSize && !s.Ended {
		return 0, nil
	}
	n, err := s.headerLength(b)
	switch {
	case err != nil:
		return 0, err
	case n > len(b) && s.Ended:
		return 0, s.incomplete(b)
	case n > len(b):
		return 0, nil
	}
	// Enhanced AC-3: dependent substreams belong to the frame.
	for s.Codec == media.EAC3 {
		rest := b[n:]
		if len(rest) < headSize && !s.Ended {
			return 0, nil
		}
		f, err := ac3.ParseFrame(rest)
		if err != nil || !f.Dependent && f.Substream == 0 {
			break
		}
		if n += f.Length; n > len(b) {
			return 0, s.incomplete(b)
		}
	}
	return n, nil
}

// incomplete returns nil if the rest of a frame can still arrive, else an error.
func (s *Splitter) incomplete(b []byte) error {
	if s.Ended && len(b) > 0 {
		return errNotFrame
	}
	return nil
}

// headerLength returns the frame length that the header at the start of b declares.
func (s *Splitter) headerLength(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var n int
	var err error
	switch s.Codec {
	case media.AAC:
		var h aac.ADTS
		h, err = aac.ParseADTS(b)
		n = h.Length
	case media.MP3:
		var h mp3.Header
		h, err = mp3.ParseHeader(b)
		n = h.Length
	default:
		var f ac3.Frame
		f, err = ac3.ParseFrame(b)
		n = f.Length
	}
	if err == nil && n == 0 { // free format has no length
		err = errNotFrame
	}
	return n, err
}

// describe sets s.track from a whole frame, and returns the payload that containers carry.
func (s *Splitter) describe(b []byte) ([]byte, error) {
	if s.Codec == media.AAC {
		return s.describeAAC(b)
	}
	if h, err := mp3.ParseHeader(b); s.Codec == media.MP3 && err == nil && h.Layer != 3 {
		s.OtherCodec = [...]string{1: "mp1", 2: "mp2"}[h.Layer]
		return nil, errNotFrame
	}
	t, err := codec.TrackFromFrame(media.Track{Kind: media.Audio, Codec: s.Codec, Timescale: 90000}, b, s.track)
	if err == nil {
		s.track = t
	}
	return b, err
}

func (s *Splitter) describeAAC(b []byte) ([]byte, error) {
	h, err := aac.ParseADTS(b)
	if err != nil {
		return nil, err
	}
	b = b[h.HeaderLength:]
	if len(b) == 0 || h.Blocks > 1 { // empty, or several frames whose borders only a decoder finds
		return nil, errNotFrame
	}
	same := h.ObjectType == s.adts.ObjectType && h.SampleRate == s.adts.SampleRate && h.Channels == s.adts.Channels
	if s.track != nil && same {
		return b, nil
	}
	config, err := h.Config(b)
	if err != nil {
		return nil, err
	}
	t := &media.Track{Kind: media.Audio, Codec: media.AAC, Config: config, Timescale: 90000}
	if _, err := codec.Describe(t); err != nil {
		return nil, err
	}
	s.track, s.adts = t, h
	return b, nil
}
