package rtmp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// Most bytes that a connection may hold between two reads, whatever its peer announces: the limit
// for unfinished messages, and twice 64 KiB for buffers and replies.
const (
	maxBufferedNegotiating = maxControl + 2*(64<<10)
	maxBufferedMedia       = maxReassembly + 2*(64<<10)
)

// bufferedBytes returns how many bytes of memory c holds for input of its peer, and for replies
// that the peer has not read.
func bufferedBytes(c *conn) int {
	n := cap(c.src.leftover) + cap(c.pending) + cap(c.split.rest) + c.in.br.Size()
	for _, s := range c.in.streams {
		n += cap(s.body) + int(unsafe.Sizeof(*s))
	}
	return n
}

// A pieceConn is a connection whose peer sends in, piece() bytes for each read, and then closes.
// between is called before each read.
type pieceConn struct {
	net.Conn
	in      []byte
	piece   func() int
	between func()
}

func (c *pieceConn) Read(p []byte) (int, error) {
	c.between()
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in[:min(len(c.in), c.piece())])
	c.in = c.in[n:]
	return n, nil
}

func (c *pieceConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *pieceConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pieceConn) SetWriteDeadline(time.Time) error { return nil }
func (c *pieceConn) Close() error                     { return nil }

// A readPath is one of the ways to read a connection. read reads nc to its end, and calls check
// with the number of buffered bytes before each read of the network.
type readPath struct {
	name        string
	player      bool // the player paths must accept and refuse the same input
	maxBuffered int
	read        func(nc *pieceConn, check func(held int)) error
}

// acceptedConn returns the server side of nc after Accept has returned a request on message stream
// 1.
func acceptedConn(nc net.Conn) *ServerConn {
	c := NewServerConn(nc, Options{})
	c.peer, c.req = &connectInfo{}, &Request{StreamID: 1}
	c.streams[1] = true
	return c
}

func readPaths() []readPath {
	return []readPath{
		{"before publish or play", false, maxBufferedNegotiating, func(nc *pieceConn, check func(int)) error {
			nc.in = append(make([]byte, 1+2*handshakeSize), nc.in...)
			c := NewServerConn(nc, Options{})
			nc.between = func() { check(bufferedBytes(c.conn)) }
			_, err := c.Accept(context.Background())
			return err
		}},
		{"publisher", false, maxBufferedMedia, func(nc *pieceConn, check func(int)) error {
			c := acceptedConn(nc)
			c.req.Publish = true
			nc.between = func() { check(bufferedBytes(c.conn)) }
			err := c.AcceptPublish()
			for err == nil {
				_, err = c.ReadMessage()
			}
			return err
		}},
		{"player", true, maxBufferedNegotiating, func(nc *pieceConn, check func(int)) error {
			p := acceptedConn(nc).Detach()
			nc.between = func() { check(bufferedBytes(p.c.conn) + cap(p.buffered) + cap(p.input)) }
			for buf := make([]byte, readBufferMedia); ; {
				n, end := nc.Read(buf)
				if _, err := p.Feed(buf[:n]); err != nil {
					return err
				}
				if end != nil {
					return end
				}
			}
		}},
		{"client", false, maxBufferedMedia, func(nc *pieceConn, check func(int)) error {
			c := NewClientConn(nc, Options{})
			c.endNegotiation()
			c.allowMedia()
			c.streamID = 1
			nc.between = func() { check(bufferedBytes(c.conn)) }
			for {
				if _, err := c.ReadMessage(); err != nil {
					return err
				}
			}
		}},
	}
}

// announcements are inputs that announce large messages and send little, or as much as the limits
// allow.
func announcements() map[string][]byte {
	header := func(csid byte, length int, typ byte) string { return first(csid, 0, length, typ, 1, "") }
	some := strings.Repeat("x", 128)
	in := map[string]string{
		"a chunk of 2 GiB, a message of 16 MB": setSize(1<<31-1) + header(4, 0xffffff, TypeVideo) +
			strings.Repeat(some, 2000),
		"the same length, a command": setSize(1<<31-1) + header(3, 0xffffff, typeCommand) +
			strings.Repeat(some, 2000),
		"the same length, an unknown type": setSize(1<<31-1) + header(3, 0xffffff, 99) + strings.Repeat(some, 2000),
		"the longest command, without its last byte": setSize(1<<31-1) + header(3, maxControl, typeCommand) +
			strings.Repeat("x", maxControl-1),
		"a command that is a byte too long": setSize(1<<31-1) + header(3, maxControl+1, typeCommand) +
			strings.Repeat("x", maxControl),
		"a chunk size change within a message": header(4, 60000, TypeData) + some + setSize(1<<31-1) + "\xc4" +
			strings.Repeat(some, 200),
		"an aggregate of empty messages": setSize(1<<31-1) + header(5, maxAggregated*15, typeAggregate) +
			string(emptyAggregate(maxAggregated)),
	}
	for _, n := range []uint32{128, 4 << 10, 60 << 10} {
		many := setSize(n)
		for csid := range 62 {
			many += header(byte(2+csid), 64<<10, TypeData) + strings.Repeat("x", int(n))
		}
		in[fmt.Sprintf("%d bytes each of 62 messages of 64 KiB", n)] = many
	}
	out := make(map[string][]byte)
	for name, s := range in {
		out[name] = []byte(s)
	}
	for _, row := range chunkRows() {
		if !strings.Contains(row.name, "many unfinished messages") && len(row.in) < 1<<16 {
			out[row.name] = []byte(row.in)
		}
	}
	return out
}

// emptyAggregate returns the body of an aggregate of n empty audio messages.
func emptyAggregate(n int) []byte {
	return bytes.Repeat([]byte{TypeAudio, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, subHeader}, n)
}

// randomChunks returns chunks with random headers, most of which are valid.
func randomChunks(rng *rand.Rand) []byte {
	pick := func(list ...int) int { return list[rng.IntN(len(list))] }
	size, open := 128, map[int]int{}
	var b []byte
	for len(b) < 40_000 && rng.IntN(60) > 0 {
		csid := pick(2, 3, 4, 6, 63, 64, 319, 320, 65599, 3+rng.IntN(100))
		format := pick(0, 0, 1, 2, 3)
		if open[csid] > 0 && rng.IntN(20) > 0 {
			format = 3
		}
		switch {
		case csid < 64:
			b = append(b, byte(format<<6|csid))
		case csid < 320:
			b = append(b, byte(format<<6), byte(csid-64))
		default:
			b = append(b, byte(format<<6|1), byte(csid-64), byte((csid-64)>>8))
		}
		when := uint32(pick(0, 40, 0xfffffe, 0xffffff, 0xffffff))
		if format < 3 {
			b = append(b, byte(when>>16), byte(when>>8), byte(when))
		}
		if format < 2 {
			open[csid] = pick(0, 1, 4, 127, 128, 129, 5000, 60000, 65535, 65536, 65537, 600_000, 8<<20, 0xffffff)
			typ := pick(TypeAudio, TypeVideo, TypeData, typeCommand, typeAggregate, typeAck, typeSetChunkSize, typeAbort,
				rng.IntN(256))
			if typ == typeSetChunkSize || typ == typeAbort || typ == typeAck {
				open[csid] = pick(4, 4, 4, 4, 0, 3, 5)
			}
			b = append(b, byte(open[csid]>>16), byte(open[csid]>>8), byte(open[csid]), byte(typ))
			if format == 0 {
				b = append(b, byte(pick(0, 1, 1)), 0, 0, 0)
			}
		}
		if when == 0xffffff && rng.IntN(4) > 0 {
			b = binary.BigEndian.AppendUint32(b, rng.Uint32())
		}
		n := min(size, open[csid])
		if n == 4 { // a control message
			size = pick(1, 2, 127, 128, 4096, 65536, 0xffffff, 1<<31-1)
			b = binary.BigEndian.AppendUint32(b, uint32(pick(size, size, size, size, size, 0, 1<<31)))
			open[csid] = 0
			continue
		}
		n = min(n, pick(n, n, n, 20_000))
		b = append(b, bytes.Repeat([]byte{byte(pick(0, 0, 2, 0xc4))}, n)...)
		open[csid] -= n
	}
	return b
}

// TestBufferedBytesAreBounded: every way to read a connection holds no more than a constant,
// whatever headers announce and however the input is divided, and all ways to serve players accept
// and refuse the same input.
func TestBufferedBytesAreBounded(t *testing.T) {
	inputs := announcements()
	for seed := range uint64(150) {
		inputs[fmt.Sprintf("random %d", seed)] = randomChunks(rand.New(rand.NewPCG(seed, 0)))
	}
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) { checkBufferedBytes(t, in) })
	}
}

// checkBufferedBytes reads in by all paths, in single bytes, in random pieces and in one piece.
func checkBufferedBytes(t *testing.T, in []byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(len(in)), 1))
	pieces := map[string]func() int{
		"single bytes":  func() int { return 1 },
		"random pieces": func() int { return 1 + rng.IntN(1+rng.IntN(3000)) },
		"one piece":     func() int { return len(in) + 2*handshakeSize + 1 },
	}
	ends := make(map[string][]string) // of the player paths
	for _, p := range readPaths() {
		for how, piece := range pieces {
			if how == "single bytes" && len(in) > 1<<16 {
				continue
			}
			most := 0
			err := p.read(&pieceConn{in: in, piece: piece}, func(n int) { most = max(most, n) })
			if most > p.maxBuffered {
				t.Errorf("%s, in %s: %d bytes buffered, want at most %d", p.name, how, most, p.maxBuffered)
			}
			if p.player {
				end := endOf(err)
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // a detached player does not see it
					end = "accepted"
				}
				ends[end] = append(ends[end], p.name+" in "+how)
			}
		}
	}
	if len(ends) != 1 {
		t.Errorf("the paths of players differ: %q", ends)
	}
}

func FuzzBufferedBytes(f *testing.F) {
	for _, in := range announcements() {
		if len(in) < 1<<12 {
			f.Add(in)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) { checkBufferedBytes(t, in) })
}
