package hostile

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"livego/e2e/harness"
)

// upgrade returns a WebSocket request with these additional headers.
func upgrade(headers ...string) string {
	return get("/live/bystander.flv", append([]string{"Connection: Upgrade", "Upgrade: websocket"}, headers...)...)
}

// upgrades are incomplete WebSocket requests (RFC 6455 section 4.2.1).
func upgrades() []request {
	const key, version = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"
	return []request{
		{"no Sec-WebSocket-Key", upgrade(version), []int{400}, false},
		{"empty Sec-WebSocket-Key", upgrade(version, "Sec-WebSocket-Key: "), []int{400}, false},
		{"Sec-WebSocket-Key of 15 bytes", upgrade(version, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), []int{400}, false},
		{"WebSocket version 12", upgrade(key, "Sec-WebSocket-Version: 12"), []int{426}, false},
		{"no WebSocket version", upgrade(key), []int{426}, false},
		{"no Upgrade header", get("/live/bystander.flv", key, version), []int{400}, false},
		{"any Origin", upgrade(key, version, "Origin: null"), []int{101}, false},
		{"invalid room name", get("/live/..flv", "Connection: Upgrade", "Upgrade: websocket", key, version), []int{400},
			false},
		{"unknown app", get("/nowhere/movie.flv", "Connection: Upgrade", "Upgrade: websocket", key, version), []int{404},
			false},
		{"disabled app", get("/closed/movie.flv", "Connection: Upgrade", "Upgrade: websocket", key, version),
			[]int{403}, false},
	}
}

// masked returns a client's frame of less than 126 bytes, with a mask of zeros.
func masked(first byte, payload string) []byte {
	return join([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, []byte(payload))
}

// webSocketRows are what a viewer must not send, and the code with which the server closes.
var webSocketRows = []struct {
	name string
	send []byte
	code int
}{
	{"unmasked", []byte{0x81, 2, 'h', 'i'}, 1002},
	{"RSV bit", masked(0xc2, "hi"), 1002},
	{"reserved opcode", masked(0x83, "hi"), 1002},
	{"length of 2^63", []byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1009},
	{"length of 1 GB", []byte{0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0}, 1009},
	{"fragments of more than 4 KiB",
		join(masked(0x02, "hi"), bytes.Repeat(masked(0x00, string(make([]byte, 125))), 40)), 1009},
	{"fragmented control frame", masked(0x09, "hi"), 1002},
	{"continuation frame first", masked(0x80, "hi"), 1002},
	{"text that is not UTF-8", masked(0x81, "\xff"), 1007},
	{"a million empty frames", bytes.Repeat(masked(0x82, ""), 1_000_000), 1008},
	{"a million pings", bytes.Repeat(masked(0x89, ""), 1_000_000), 1008},
	{"a million pongs", bytes.Repeat(masked(0x8a, "x"), 1_000_000), 1008},
	{"a million empty fragments", join(masked(0x02, ""), bytes.Repeat(masked(0x00, ""), 1_000_000)), 1008},
	{"close code 999", masked(0x88, "\x03\xe7"), 1002},
	{"binary frames", bytes.Repeat(masked(0x82, "FLV\x01\x05\x00\x00\x00\x09"), 100), 1008},
}

// webSockets watches by WebSocket and sends what a viewer must not send. The server must close with
// the right code, unless the viewer does not read.
func webSockets(t *testing.T, s *target) int {
	open := func(t *testing.T, room string) *harness.WebSocket {
		ctx, cancel := context.WithTimeout(context.Background(), longTimeout)
		t.Cleanup(cancel)
		ws, err := harness.OpenWebSocket(ctx, "ws://"+s.Addr("httpflv_addr")+"/live/"+room+".flv", nil)
		if err != nil {
			t.Fatal(err)
		}
		return ws
	}
	closedBy := func(t *testing.T, ws *harness.WebSocket, code int) {
		for {
			_, err := ws.ReadMessage()
			if err == nil {
				continue
			}
			var closed *harness.CloseError
			if !errors.As(err, &closed) || closed.Code != code {
				t.Errorf("%v, want it closed by %d", err, code)
			}
			return
		}
	}
	for _, r := range webSocketRows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			ws := open(t, "bystander")
			if _, err := ws.ReadMessage(); err != nil {
				t.Fatal(err)
			}
			ws.SetDeadline(time.Now().Add(replyTimeout))
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = ws.Write(r.send) // the server may close before the end of it
			}()
			closedBy(t, ws, r.code)
			ws.Close()
			<-sent
		})
	}
	t.Run("no publisher comes", func(t *testing.T) {
		t.Parallel()
		closedBy(t, open(t, "nobody-comes"), 4404)
	})
	return len(webSocketRows) + 1
}
