package source

import (
	"errors"
	"io"
	"math"

	"livego/internal/container/mkv"
	"livego/internal/media"
)

// Pipe reads a Matroska stream that comes through a pipe.
func Pipe(name string, r io.Reader) (*Source, error) {
	m, err := mkv.NewReader(&pipe{r: r}, math.MaxInt64/2)
	if err != nil {
		return nil, named(name, err)
	}
	s := &Source{Name: name, Container: "matroska", frames: ended{m}, streams: m.Streams}
	return s, nil
}

// OnClose has f called when s is closed.
func (s *Source) OnClose(f func() error) { s.close = f }

// ended takes the end of a pipe for the end of the stream.
type ended struct{ frames }

// Next returns the next frame.
func (e ended) Next() (*media.Frame, error) {
	f, err := e.frames.Next()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return f, err
}

// A pipe lets a stream be read by offsets that rise, or go back by a header.
type pipe struct {
	r    io.Reader
	off  int64  // of what comes next
	last []byte // what came before
}

// lookBehind is more than any header.
const lookBehind = 4 << 10

// ReadAt reads from an offset, which may be only a little before where the last call ended.
func (p *pipe) ReadAt(b []byte, off int64) (n int, err error) {
	if skip := off - p.off; skip > 0 {
		if _, err := io.CopyN(io.Discard, p.r, skip); err != nil {
			return 0, err
		}
		p.off, p.last = off, nil
	}
	if back := int(p.off - off); back > 0 {
		if back > len(p.last) {
			return 0, errors.New("source: a pipe cannot go back")
		}
		n = copy(b, p.last[len(p.last)-back:])
	}
	got, err := io.ReadFull(p.r, b[n:])
	fresh := b[n : n+got]
	p.off += int64(got)
	p.last = append(p.last, fresh[max(0, len(fresh)-lookBehind):]...)
	p.last = p.last[max(0, len(p.last)-lookBehind):]
	if n+got == len(b) {
		err = nil
	} else if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n + got, err
}
