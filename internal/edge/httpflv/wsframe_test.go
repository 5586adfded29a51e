package httpflv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/gorilla/websocket"
)

// events passes data to a frameReader in pieces and returns what it reports: "ping x", "pong",
// "text", "binary", and the code that ends it, 0 for none.
func events(data []byte, piece int) (got []string, code int) {
	var r frameReader
	for len(data) > 0 {
		b := data[:min(piece, len(data))]
		data = data[len(b):]
		for len(b) > 0 {
			e, rest, err := r.next(b)
			if b = rest; err != nil {
				return got, err.code
			}
			switch e.op {
			case opPing:
				got = append(got, "ping "+string(e.payload))
			case opPong:
				got = append(got, "pong")
			case opText:
				got = append(got, "text")
			case opBinary:
				got = append(got, "binary")
			}
		}
	}
	return got, 0
}

// masked returns a frame that is masked with key.
func masked(first byte, key uint32, payload []byte) []byte {
	b := frame(first, payload)
	head := len(b) - len(payload)
	binary.BigEndian.PutUint32(b[head-4:], key)
	for i := range payload {
		b[head+i] ^= b[head-4+i%4]
	}
	return b
}

// frames are inputs and what comes of them. They seed the fuzz target too, with those of
// TestWebSocketInbound.
var frames = []struct {
	name string
	in   []byte
	want []string
	code int
}{
	{"ping", masked(0x89, 0x01020304, []byte("hello")), []string{"ping hello"}, 0},
	{"ping and pong", append(masked(0x89, 9, nil), masked(0x8a, 9, []byte("x"))...), []string{"ping ", "pong"}, 0},
	{"text", masked(0x81, 0xdeadbeef, []byte("grüße")), []string{"text"}, 0},
	{"text in fragments that divide a character, with a ping between", slices.Concat(masked(0x01, 1, []byte("gr\xc3")),
		masked(0x89, 2, []byte("p")), masked(0x00, 3, nil), masked(0x80, 4, []byte("\xbc\xc3\x9fe"))),
		[]string{"ping p", "text"}, 0},
	{"binary of 200 bytes", masked(0x82, 5, make([]byte, 200)), []string{"binary"}, 0},
	{"half a frame", masked(0x89, 1, []byte("hello"))[:8], nil, 0},
	{"length of 0 in 16 bits", append([]byte{0x82, 0xfe, 0, 0}, 0, 0, 0, 0), []string{"binary"}, 0},
	{"messages after an invalid one", append(frame(0x83, nil), frame(0x81, nil)...), nil, 1002},
	{"close code in the mask", masked(0x88, 0x03e80000, []byte{0x03, 0xe9}), nil, 1001},
	{"close with a reason that is not UTF-8", frame(0x88, []byte{0x03, 0xe8, 0xff}), nil, 1002},
	{"close with one byte", frame(0x88, []byte{3}), nil, 1002},
	{"close code 1006", frame(0x88, []byte{0x03, 0xee}), nil, 1002},
	{"close code 1016", frame(0x88, []byte{0x03, 0xf8}), nil, 1002},
	{"close code 4999", frame(0x88, []byte{0x13, 0x87}), nil, 4999},
	{"continuation after a complete message", append(frame(0x81, nil), frame(0x80, nil)...), []string{"text"}, 1002},
}

// TestFrames: the events do not depend on how the input is divided.
func TestFrames(t *testing.T) {
	for _, tt := range frames {
		t.Run(tt.name, func(t *testing.T) {
			for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
				if got, code := events(tt.in, piece); !slices.Equal(got, tt.want) || code != tt.code {
					t.Errorf("in pieces of %d: %q, code %d, want %q and %d", piece, got, code, tt.want, tt.code)
				}
			}
		})
	}
}

func FuzzFrames(f *testing.F) {
	for _, tt := range frames {
		f.Add(tt.in, uint8(3))
	}
	for _, tt := range inbound {
		f.Add(tt.send[:min(len(tt.send), 1<<10)], uint8(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		whole, code := events(data, 1<<20)
		got, gotCode := events(data, max(1, int(piece)))
		if !slices.Equal(got, whole) || gotCode != code {
			t.Errorf("in pieces of %d: %q, code %d, in one %q, code %d", piece, got, gotCode, whole, code)
		}
		var r frameReader
		for _, c := range data {
			if _, _, err := r.next([]byte{c}); err != nil {
				break
			}
			if held := cap(r.head) + cap(r.control) + cap(r.text); held > 2*maxInbound+1<<10 {
				t.Fatalf("%d bytes are held", held)
			}
		}
	})
}

// TestCloseFrames has a client read the close frames that are sent.
func TestCloseFrames(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want []byte
	}{
		{errors.New("connection reset"), nil},
		{errPingTimeout, append([]byte{0x88, 21, 0x03, 0xf4}, "no reply to a ping\x00"[:18]...)},
	} {
		got := newSocketViewer(nil).Close(tt.err)
		if tt.want != nil {
			tt.want[1] = byte(len(tt.want) - 2)
		}
		if !bytes.Equal(got, tt.want) {
			t.Errorf("%v: %x, want %x", tt.err, got, tt.want)
		}
	}
	if got := appendClose(nil, websocket.CloseNoStatusReceived, ""); !bytes.Equal(got, []byte{0x88, 0}) {
		t.Errorf("a close frame without a code: %x", got)
	}
}
