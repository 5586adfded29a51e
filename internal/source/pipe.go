package source

import (
	"bufio"
	"errors"
	"io"
	"math"

	"livego/internal/container/mkv"
	"livego/internal/media"
)

// Pipe reads a Matroska stream from r, and takes ownership of r: it closes r with the source, or
// if r has no stream. The end of r ends the stream, wherever it comes. Any other error of r is
// reported as for a damaged file.
func Pipe(name string, r io.ReadCloser) (*Source, error) {
	m, err := mkv.NewReader(newPipe(r), math.MaxInt64/2)
	if err != nil {
		r.Close()
		return nil, wrapError(name, err)
	}
	return &Source{Name: name, Container: "matroska", frames: pipeFrames{m}, close: r.Close}, nil
}

// pipeFrames treats the end of the pipe as the end of the stream.
type pipeFrames struct{ frames }

// Next returns the next frame.
func (e pipeFrames) Next() (*media.Frame, error) {
	f, err := e.frames.Next()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return f, err
}

// A pipe reads a stream at offsets that never decrease, as mkv.Reader does: a small piece can be
// read again.
type pipe struct {
	r   *bufio.Reader
	off int64 // offset of the next byte
}

// pipeBuffer is the capacity of a pipe on Linux, and more than any piece that is read again.
const pipeBuffer = 64 << 10

func newPipe(r io.Reader) *pipe { return &pipe{r: bufio.NewReaderSize(r, pipeBuffer)} }

// ReadAt reads at an offset not below that of the last call; if that call read more than
// pipeBuffer, not below its end.
func (p *pipe) ReadAt(b []byte, off int64) (int, error) {
	if off < p.off {
		return 0, errors.New("source: cannot seek back in a pipe")
	}
	for p.off < off {
		n, err := p.r.Discard(int(min(off-p.off, math.MaxInt32)))
		if p.off += int64(n); err != nil {
			return 0, err
		}
	}
	if len(b) <= pipeBuffer {
		ahead, err := p.r.Peek(len(b))
		return copy(b, ahead), err
	}
	n, err := io.ReadFull(p.r, b)
	if p.off += int64(n); err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}
