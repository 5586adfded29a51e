package relay

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/proto/rtmp"
)

// panicOnSkip panics in the demuxer, which logs what it skips.
func panicOnSkip(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.MessageKey && a.Value.String() == "media skipped" {
		panic("test panic")
	}
	return a
}

// TestPanicFailsOnlyItsRelay makes the relay panic on input from the remote server, in the demuxer of
// a pull, and in the protocol during a pull, a push and a static push. The process continues, the
// relay is shown as failed and tries again, and the log has the panic once. The pulled stream is held
// as after a lost connection, and the pushed stream continues.
func TestPanicFailsOnlyItsRelay(t *testing.T) {
	for _, tt := range []struct {
		name, direction   string
		static, inDemuxer bool
	}{
		{"pull", domain.Pull, false, false},
		{"pull, in the demuxer", domain.Pull, false, true},
		{"push", domain.Push, false, false},
		{"static push", domain.Push, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			other := serve(t, func(ctx context.Context, c *rtmp.ServerConn, req *rtmp.Request) {
				send := func(streamID uint32) func(flv.Tag) error {
					return func(tag flv.Tag) error {
						bufs := net.Buffers(rtmp.AppendMessage(nil,
							rtmp.Header{Type: tag.Type, Timestamp: tag.Timestamp, StreamID: streamID}, tag.Body))
						_, err := c.WriteMedia(&bufs)
						return err
					}
				}
				var err error
				if req.Publish {
					err = c.AcceptPublish()
				} else {
					err = c.AcceptPlay()
				}
				if err != nil {
					return
				}
				if !req.Publish {
					sendAudio(ctx, 20, send(req.StreamID))
				}
				if tt.inDemuxer {
					send(req.StreamID)(flv.Tag{Type: flv.TypeAudio, Body: []byte{0xaf}}) // AAC without a packet type
				} else {
					send(99)(flv.Tag{Type: flv.TypeAudio, Body: []byte{0}})
				}
				<-ctx.Done()
			})
			var log bytes.Buffer
			hub, m := newManager(t, func(o *Options) {
				o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: panicOnSkip}))
				o.Conn.SkipCount = func(string) { panic("test panic") } // for a message with an unknown stream ID
				if tt.static {
					o.Static = map[string][]string{"live": {other.url("")}}
				}
			})
			more := func() {}
			if tt.direction != domain.Pull {
				p, n := publishAudio(t, hub), 0
				more = func() { // the relay tries again when there is a new frame
					if err := p.Write(audioFrame(n)); err != nil {
						t.Fatal(err)
					}
					n++
				}
			}
			more()
			if tt.static {
				defer runStatic(m)()
			} else if _, err := m.Start(t.Context(),
				domain.Relay{Direction: tt.direction, Name: movie, URL: other.url("movie")}); err != nil {
				t.Fatal(err)
			}
			s := awaitState(t, m, func(s domain.RelayStatus) bool {
				more()
				return s.State == stateFailed && s.Attempts == 2
			})
			if s.Error != errPanic.Error() {
				t.Errorf("status %+v", s)
			}
			if info, ok := hub.Info(movie); !ok || info.Held != (tt.direction == domain.Pull) || info.Off != nil {
				t.Errorf("the stream is %+v", info)
			}
			m.Close()
			if n := strings.Count(log.String(), "test panic"); n != 1 {
				t.Errorf("the log has the panic %d times:\n%s", n, log.String())
			}
		})
	}
}
