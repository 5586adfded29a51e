package httpflv

import (
	"encoding/binary"
	"strconv"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/media"
)

// A framing is how a protocol divides an FLV file into pieces.
type framing uint8

const (
	raw     framing = iota // not at all: HTTP/1.0 and HTTP/2
	chunks                 // chunks of HTTP/1.1 (RFC 9112 section 7.1)
	message                // binary messages of a WebSocket (RFC 6455 section 5.2)
)

// maxFrameHead is the longest head of a piece in bytes.
const maxFrameHead = 18

// appendHead appends what precedes a piece of size bytes.
func (f framing) appendHead(b []byte, size int) []byte {
	switch f {
	case chunks:
		return append(strconv.AppendInt(b, int64(size), 16), "\r\n"...)
	case message:
		return appendFrameHead(b, opBinary, size)
	}
	return b
}

// appendFrameHead appends the head of an unmasked WebSocket frame that is a whole message.
func appendFrameHead(b []byte, op byte, size int) []byte {
	b = append(b, finalFrame|op)
	switch {
	case size < 126:
		return append(b, byte(size))
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(size))
}

// tail returns what follows a piece. Shared: do not modify.
func (f framing) tail() []byte {
	if f == chunks {
		return chunkEnd
	}
	return nil
}

var chunkEnd = []byte("\r\n")

// lastChunk ends a chunked body, so that a viewer can distinguish the end of the stream from a lost
// connection.
const lastChunk = "0\r\n\r\n"

// A format is an FLV file in a dialect, in the pieces of a protocol.
type format struct {
	dialect flv.Dialect
	framing framing
}

// NewEncoder implements fanout.Format.
func (f format) NewEncoder() fanout.Encoder {
	return &encoder{format: f, pre: flv.Preamble{Dialect: f.dialect}}
}

// AllTracks implements fanout.Format.
func (f format) AllTracks() bool { return f.dialect.Multitrack }

// An encoder encodes a stream as an FLV file.
type encoder struct {
	format
	declared media.Kinds // by the file header
	pre      flv.Preamble
	tags     []flv.Tag
}

// StartHeader implements fanout.Encoder. It returns the file header, onMetaData and the sequence
// headers.
func (e *encoder) StartHeader(f *media.Frame, program *media.Program) []byte {
	e.declareTracks(f, program)
	head := flv.FileHeader(e.declared.Has(media.Video), e.declared.Has(media.Audio))
	return e.piece(append(head, e.preamble(f, program)...))
}

// ResumeHeader implements fanout.Encoder. It is StartHeader without the file header.
func (e *encoder) ResumeHeader(f *media.Frame, program *media.Program) []byte {
	return e.piece(e.preamble(f, program))
}

func (e *encoder) preamble(f *media.Frame, program *media.Program) []byte {
	return appendTags(nil, e.dialect.Preamble(f, program))
}

var errNewTrack = domain.Errorf(domain.Unavailable, "new track is not in the FLV file header")

// AppendFrames implements fanout.Encoder. It fails for a track that the file header does not
// declare: viewers have to reconnect.
func (e *encoder) AppendFrames(parts [][]byte, frames []*media.Frame, program *media.Program) ([][]byte, error) {
	e.declareTracks(frames[0], program)
	at := len(parts)
	parts = append(parts, nil) // placeholder for the head
	for _, f := range frames {
		if !e.declares(f.Track) {
			return parts, errNewTrack
		}
		// viewers that start here have the first ones from StartHeader
		if e.tags = e.pre.AppendChanges(e.tags[:0], f, program); len(e.tags) > 0 {
			parts = append(parts, appendTags(nil, e.tags))
		}
		parts = append(parts, e.dialect.EncodeTag(f)...)
	}
	size := 0
	for _, p := range parts[at:] {
		size += len(p)
	}
	parts[at] = e.framing.appendHead(nil, size)
	return append(parts, e.framing.tail()), nil
}

func (e *encoder) declareTracks(f *media.Frame, program *media.Program) {
	if e.declared == 0 {
		e.declared = program.Kinds() | f.Program.Kinds()
	}
}

// declares reports whether the file header allows t. Players create their pipeline from the header,
// and ignore tracks of a kind that it lacks.
func (e *encoder) declares(t *media.Track) bool {
	return t.Kind == media.Data || e.declared.Has(t.Kind)
}

// piece returns b as one piece, in a new slice.
func (f format) piece(b []byte) []byte {
	c := f.framing.appendHead(make([]byte, 0, len(b)+maxFrameHead), len(b))
	return append(append(c, b...), f.framing.tail()...)
}

func appendTags(b []byte, tags []flv.Tag) []byte {
	for _, t := range tags {
		b = flv.AppendTag(b, t.Type, t.Timestamp, t.Body)
	}
	return b
}
