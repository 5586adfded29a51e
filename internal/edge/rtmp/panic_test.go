package rtmp

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/proto/rtmp"
	"livego/internal/stream"
)

// panicHandler panics in the demuxer, which logs what it skips. It keeps other log lines.
type panicHandler struct{ slog.Handler }

func (h panicHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "media skipped" {
		panic("demuxing fails")
	}
	return h.Handler.Handle(ctx, r)
}

func (h panicHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return panicHandler{h.Handler.WithAttrs(attrs)}
}

// TestDemuxerPanicEndsOnlyItsPublisher makes the demuxer of one publisher panic, as a hostile stream
// might. Its connection is closed and its stream is held, so that it can come back. Another
// publisher continues.
func TestDemuxerPanicEndsOnlyItsPublisher(t *testing.T) {
	var log bytes.Buffer // read after the server has stopped
	hub := stream.NewHub(stream.Options{Hold: time.Minute, TrackWait: 1})
	addr, stop := startServer(t, hub, panicHandler{slog.NewTextHandler(&log, nil)},
		func(r domain.AuthRequest) (domain.Grant, error) {
			name, err := domain.ParseName(r.App, r.Name)
			return domain.Grant{Name: name}, err
		})
	events, _, stopEvents := hub.Observe(16, false)
	defer stopEvents()

	publish := func(room string) *rtmp.ClientConn {
		t.Helper()
		c := connect(t, addr)
		if err := c.Publish(t.Context(), room); err != nil {
			t.Fatal(err)
		}
		return c
	}
	send := func(c *rtmp.ClientConn, body ...byte) {
		t.Helper()
		if err := c.WriteMessage(rtmp.Message{Type: flv.TypeAudio, StreamID: c.StreamID(), Payload: body}); err != nil {
			t.Fatal(err)
		}
	}
	await := func(room string, want stream.EventType) {
		t.Helper()
		select {
		case e := <-events:
			if e.Name.Room != room || e.Type != want {
				t.Fatalf("%s %s, want %s %s", e.Name, e.Type, room, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not %s", room, want)
		}
	}
	healthy := publish("healthy")
	await("healthy", stream.Started)
	hostile := publish("hostile")
	await("hostile", stream.Started)
	mp3 := []byte{0x2f, 0xff, 0xfb, 0x90, 0x00}
	send(hostile, mp3...)
	send(hostile, 0xaf) // AAC without the packet type
	await("hostile", stream.Held)
	for err := error(nil); err == nil; { // until the server closes the connection
		_, err = hostile.ReadMessage()
	}
	publish("hostile")
	await("hostile", stream.Resumed)
	before, _ := hub.Info(domain.Name{App: "live", Room: "healthy"})
	send(healthy, mp3...)
	if err := healthy.EndStream(); err != nil {
		t.Fatal(err)
	}
	await("healthy", stream.Ended)
	if len(before.Publishers) != 1 {
		t.Errorf("the other stream: %+v", before)
	}
	stop()
	if n := strings.Count(log.String(), "demuxing fails"); n != 1 {
		t.Errorf("the log has the panic %d times:\n%s", n, log.String())
	}
}
