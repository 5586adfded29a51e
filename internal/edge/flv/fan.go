package flv

import (
	"log/slog"
	"net/http"
	"strconv"

	"livego/internal/container/flv"
	"livego/internal/fan"
	"livego/internal/live"
	"livego/internal/media"
	"livego/internal/netx"
	"livego/internal/obs"
	"livego/internal/stream"
)

// handOver gives a viewer of a stream that is live to the fan, if it can serve him. It reports whether the request is done with.
func (s *Server) handOver(w http.ResponseWriter, r *http.Request, grant live.Grant, log *slog.Logger) bool {
	name := grant.Name
	if s.fan == nil || s.opt.GOPs == 0 || dialectOf(r) != everybody() || r.TLS != nil || r.ProtoMajor != 1 || r.ProtoMinor == 0 || s.hub.Start(name) != stream.StartNow {
		return false
	}
	v, err := s.hub.Join(name, viewer(r, grant))
	if err != nil {
		return false
	}
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		v.Leave()
		log.Error("cannot take over the connection", "err", err)
		return true
	}
	netx.BoundUnsent(nc, v.Backlog())
	netx.Stream(nc) // until it is closed
	w.Header().Set("Transfer-Encoding", "chunked")
	err = s.fan.Add(name, nc, fan.Conn{
		Viewer: v, First: responseHead(w.Header()),
		Farewell: func(error) []byte { return []byte(lastChunk) },
		Left: func(err error) {
			v.Leave()
			obs.PlayerLeft(log, err)
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

// encoder lays a stream out as an FLV file in chunks, for all viewers.
type encoder struct {
	head   *head
	pre    flv.Preamble
	primed bool
	tags   []flv.Tag
}

// Start implements fan.Encoder: the file header, onMetaData and the sequence headers.
func (e *encoder) Start(f *media.Frame, known []*media.Track) []byte {
	e.open(f, known)
	return chunk(append(flv.FileHeader(e.head.video, e.head.audio), preamble(f, known)...))
}

// Again implements fan.Encoder: as Start, without what only a file begins with.
func (e *encoder) Again(f *media.Frame, known []*media.Track) []byte {
	return chunk(preamble(f, known))
}

func preamble(f *media.Frame, known []*media.Track) []byte {
	pre := flv.Preamble{Dialect: everybody()}
	return appendTags(nil, pre.Before(nil, f, known))
}

// Batch implements fan.Encoder. Viewers cannot go on when a track comes that their file header does not have.
func (e *encoder) Batch(parts [][]byte, frames []*media.Frame, known []*media.Track) [][]byte {
	e.open(frames[0], known)
	at := len(parts)
	parts = append(parts, nil) // the chunk's size
	for _, f := range frames {
		if !e.head.has(f.Track) {
			return nil
		}
		if !e.pre.Ready(f) {
			e.tags = e.pre.Before(e.tags[:0], f, known)
			if e.primed { // who starts here has been sent it
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

// A chunk is its size in hexadecimal, a line end, the bytes, and a line end (RFC 9112 section 7.1).
var chunkEnd = []byte("\r\n")

func appendChunkSize(b []byte, size int) []byte {
	return append(strconv.AppendInt(b, int64(size), 16), "\r\n"...)
}

func (e *encoder) open(f *media.Frame, known []*media.Track) {
	if e.head == nil {
		e.head = newHead(known, f.Track)
	}
}

func appendTags(b []byte, tags []flv.Tag) []byte {
	for _, t := range tags {
		b = flv.AppendTag(b, t.Type, t.Timestamp, t.Body)
	}
	return b
}

// chunk returns a copy of b as one chunk.
func chunk(b []byte) []byte {
	c := make([]byte, 0, len(b)+12)
	return append(append(appendChunkSize(c, len(b)), b...), chunkEnd...)
}
