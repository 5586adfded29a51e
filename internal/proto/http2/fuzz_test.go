package http2

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A memory is a Transport with a fixed input.
type memory struct {
	io.Reader
	mu  sync.Mutex
	out bytes.Buffer
}

func (*memory) SetReadDeadline(time.Time) error { return nil }

func (*memory) Linger() {}

func (m *memory) Send(b []byte, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out.Write(b)
	return nil
}

// FuzzServe sends any bytes to a server, and checks that it sends valid frames in a valid order.
func FuzzServe(f *testing.F) {
	for _, tt := range testCases {
		var b []byte
		for _, s := range tt.in {
			if p, ok := s.([]byte); ok {
				b = append(b, p...)
			}
		}
		f.Add(b)
	}
	srv := newTestServer()
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &memory{Reader: bytes.NewReader(b)}
		srv.NewConn(t.Context(), m, "192.0.2.1:1", nil).Serve()
		checkFrames(t, m.out.Bytes())
	})
}

// checkFrames checks what a server has sent.
func checkFrames(t *testing.T, b []byte) {
	r := h2.NewFramer(nil, bytes.NewReader(b))
	r.SetMaxReadFrameSize(frameSize)
	r.ReadMetaHeaders = hpack.NewDecoder(0, nil) // a client may have no table
	began, ended := map[uint32]bool{}, map[uint32]bool{}
	for first := true; ; first = false {
		f, err := r.ReadFrame()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("invalid frame: %v", err)
		}
		head := f.Header()
		if _, ok := f.(*h2.SettingsFrame); first && !ok {
			t.Fatalf("the first frame is %v", f)
		}
		switch head.Type {
		case h2.FrameHeaders:
			if began[head.StreamID] || ended[head.StreamID] {
				t.Fatalf("a second response: %v", f)
			}
			began[head.StreamID] = true
		case h2.FrameData:
			if !began[head.StreamID] || ended[head.StreamID] {
				t.Fatalf("DATA outside of a response: %v", f)
			}
		case h2.FrameRSTStream:
			ended[head.StreamID] = true
			continue
		default:
			continue
		}
		ended[head.StreamID] = head.Flags.Has(h2.FlagDataEndStream)
	}
}
