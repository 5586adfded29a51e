package httpflv

import (
	"log/slog"
	"net/http"
	"strconv"

	"livego/internal/container/flv"
	"livego/internal/deliver/fanout"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/logging"
	"livego/internal/ops/netx"
	"livego/internal/stream"
)

// joinFanout passes a viewer of a live stream to the broadcaster, if that can serve it. It reports
// whether the request is finished.
func (s *Server) joinFanout(w http.ResponseWriter, r *http.Request, grant domain.Grant, log *slog.Logger) bool {
	name := grant.Name
	if s.broadcaster == nil || s.opt.GOPs == 0 || dialectOf(r) != defaultDialect() || r.TLS != nil || r.ProtoMajor != 1 ||
		r.ProtoMinor == 0 || s.hub.StartPoint(name) != stream.StartNow {
		return false
	}
	v, err := s.hub.Join(name, s.viewer(r, grant))
	if err != nil {
		return false
	}
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		v.Leave()
		log.Error("cannot take over the connection", "err", err)
		return true
	}
	netx.SetUnsentLimit(nc, v.UnsentLimit())
	netx.MarkStreaming(nc) // until the connection is closed
	w.Header().Set("Transfer-Encoding", "chunked")
	err = s.broadcaster.Add(name, nc, fanout.Conn{
		Viewer: v, Prefix: responseHead(w.Header()),
		CloseMessage: func(error) []byte { return []byte(lastChunk) },
		OnClose: func(err error) {
			v.Leave()
			logging.PlayerEnded(log, err)
		},
	})
	if err != nil {
		v.Leave()
		nc.Close()
		log.Warn("player lost", "reason", err)
		return true
	}
	log.Info("playing")
	return true
}

// lastChunk ends a chunked body (RFC 9112 section 7.1).
const lastChunk = "0\r\n\r\n"

// encoder encodes a stream as an FLV file in HTTP chunks, the same for all viewers.
type encoder struct {
	declared *media.Program // what the file header declares
	pre      flv.Preamble
	primed   bool
	tags     []flv.Tag
}

// StartHeader implements fanout.Encoder. It returns the file header, onMetaData and the sequence
// headers.
func (e *encoder) StartHeader(f *media.Frame, program *media.Program) []byte {
	e.declareTracks(f, program)
	return chunk(append(fileHeader(e.declared), preamble(f, program)...))
}

// ResumeHeader implements fanout.Encoder. It is StartHeader without the file header.
func (e *encoder) ResumeHeader(f *media.Frame, program *media.Program) []byte {
	return chunk(preamble(f, program))
}

func preamble(f *media.Frame, program *media.Program) []byte {
	pre := flv.Preamble{Dialect: defaultDialect()}
	return appendTags(nil, pre.Append(nil, f, program))
}

// AppendFrames implements fanout.Encoder. It returns nil for a track that the file header does not
// declare: viewers have to reconnect.
func (e *encoder) AppendFrames(parts [][]byte, frames []*media.Frame, program *media.Program) [][]byte {
	e.declareTracks(frames[0], program)
	at := len(parts)
	parts = append(parts, nil) // placeholder for the chunk size
	for _, f := range frames {
		if !declares(e.declared, f.Track) {
			return nil
		}
		if !e.pre.Ready(f) {
			e.tags = e.pre.Append(e.tags[:0], f, program)
			if e.primed { // viewers that start here have it from StartHeader
				parts = append(parts, appendTags(nil, e.tags))
			}
			e.primed = true
		}
		parts = append(parts, flv.EncodeTag(f)...)
	}
	size := 0
	for _, p := range parts[at:] {
		size += len(p)
	}
	parts[at] = appendChunkSize(nil, size)
	return append(parts, chunkEnd)
}

// A chunk is its size in hexadecimal, CRLF, the bytes, and CRLF (RFC 9112 section 7.1).
var chunkEnd = []byte("\r\n")

func appendChunkSize(b []byte, size int) []byte {
	return append(strconv.AppendInt(b, int64(size), 16), "\r\n"...)
}

func (e *encoder) declareTracks(f *media.Frame, program *media.Program) {
	if e.declared == nil {
		e.declared = program.With(f.Track)
	}
}

func appendTags(b []byte, tags []flv.Tag) []byte {
	for _, t := range tags {
		b = flv.AppendTag(b, t.Type, t.Timestamp, t.Body)
	}
	return b
}

// chunk returns b as one chunk, in a new slice.
func chunk(b []byte) []byte {
	c := make([]byte, 0, len(b)+12)
	return append(append(appendChunkSize(c, len(b)), b...), chunkEnd...)
}
