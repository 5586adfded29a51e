package rtmp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

// newPlayer returns a Player whose play request was on message stream 1.
func newPlayer() *Player {
	c := NewServerConn(nil, Options{})
	c.peer, c.req = &connectInfo{}, &Request{StreamID: 1}
	c.streams[1] = true
	return c.Detach()
}

// playerSessions is what players send. It seeds the fuzz target too.
func playerSessions() map[string][]byte {
	return map[string][]byte{
		"silence": nil,
		"acks and pings": chunks(control(typeAck, 1), event(eventPingRequest, 7), event(eventPingResponse, 8),
			control(typeWindowAck, 5000)),
		"commands": chunks(newCommand(1, "pause", 0, nil, true, 0), newCommand(1, "seek", 0, nil, 1000),
			newCommand(0, "_checkbw", 5, nil)),
		"long command": chunks(newCommand(0, "whatever", 9, string(bytes.Repeat([]byte("x"), 1000)))),
		"media": chunks(Message{Type: TypeAudio, StreamID: 1, Payload: make([]byte, 300)},
			event(eventPingRequest, 9)),
		"stream end":   chunks(newCommand(0, "deleteStream", 0, nil, 1)),
		"chunk size 0": chunks(control(typeSetChunkSize, 0)),
		"larger chunks": append(chunks(control(typeSetChunkSize, 4096)),
			appendChunks(nil, 4096, Header{Type: typeCommand}, make([]byte, 300))[0]...),
		"two byte basic header": {0x00, 0x05, 0, 0, 0, 0, 0, 6, typeUserControl, 0, 0, 0, 0, 0, 6, 0, 0, 0, 9},
		"extended timestamp":    {0x03, 0xff, 0xff, 0xff, 0, 0, 6, typeUserControl, 0, 0, 0, 0, 1, 0, 0, 0, 0, 6, 0, 0, 0, 9},
	}
}

// feed passes data to a new Player in pieces until an error, and returns the replies.
func feed(data []byte, piece int) ([]byte, error) {
	p := newPlayer()
	var all []byte
	for len(data) > 0 {
		n := min(piece, len(data))
		reply, err := p.Feed(data[:n])
		all = append(all, reply...)
		if err != nil {
			return all, err
		}
		data = data[n:]
	}
	return all, nil
}

// TestPlayerInputInPieces: the reply does not depend on how the input is divided.
func TestPlayerInputInPieces(t *testing.T) {
	for name, data := range playerSessions() {
		t.Run(name, func(t *testing.T) {
			whole, err := feed(data, 1<<20)
			for _, piece := range []int{1, 2, 3, 7, 100, 129} {
				got, gotErr := feed(data, piece)
				if !bytes.Equal(got, whole) || (gotErr == nil) != (err == nil) {
					t.Errorf("in pieces of %d: %x, %v; in one %x, %v", piece, got, gotErr, whole, err)
				}
			}
			switch name {
			case "stream end":
				if !errors.Is(err, ErrStreamEnded) {
					t.Errorf("%v, want ErrStreamEnded", err)
				}
			case "chunk size 0":
				if _, ok := errors.AsType[*ProtocolError](err); !ok {
					t.Errorf("%v, want a protocol error", err)
				}
			default:
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestPlayerMessages decodes the messages that a Player returns.
func TestPlayerMessages(t *testing.T) {
	p := newPlayer()
	out := bytes.Join([][]byte{p.Accept(), p.Ping(), p.End("NetStream.Play.UnpublishNotify", "ended"),
		p.StatusError("NetStream.Play.Failed", "and out")}, nil)
	in := newChunkReader(bufio.NewReader(bytes.NewReader(out)), func(string) {})
	var types []uint8
	for {
		m, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, m.Type)
	}
	want := []uint8{
		typeUserControl, typeCommand, typeCommand, // StreamBegin, Play.Reset, Play.Start
		typeUserControl,                           // ping
		typeCommand, typeUserControl, typeCommand, // UnpublishNotify, StreamEOF, Play.Stop
		typeCommand,
	}
	if !slices.Equal(types, want) {
		t.Errorf("messages of types %v, want %v", types, want)
	}
}

func FuzzPlayer(f *testing.F) {
	for _, data := range playerSessions() {
		f.Add(data, uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		whole, err := feed(data, 1<<20)
		got, gotErr := feed(data, max(1, int(piece)))
		if err == nil && gotErr == nil && !bytes.Equal(got, whole) {
			t.Errorf("in pieces of %d: %x, in one %x", piece, got, whole)
		}
	})
}

func TestPlayerAllocates(t *testing.T) {
	p := newPlayer()
	ack := chunks(control(typeAck, 1))
	got := testing.AllocsPerRun(100, func() {
		if _, err := p.Feed(ack); err != nil {
			t.Fatal(err)
		}
	})
	if got > 3 {
		t.Errorf("%v allocations for an acknowledgement", got)
	}
}
