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

// TestPanicFailsOnlyItsRelay makes the relay panic on input from the remote server, during a pull, a
// push and a static push. The process continues, the relay is shown as failed and tries again, and
// the log has the panic once. The pulled stream is held as after a lost connection, and the pushed
// stream continues.
func TestPanicFailsOnlyItsRelay(t *testing.T) {
	const staticPush = "static push"
	for _, direction := range []string{domain.Pull, domain.Push, staticPush} {
		t.Run(direction, func(t *testing.T) {
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
				send(99)(flv.Tag{Type: flv.TypeAudio, Body: []byte{0}})
				<-ctx.Done()
			})
			var log bytes.Buffer
			hub, m := newManager(t, func(o *Options) {
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				o.Conn.SkipCount = func(string) { panic("test panic") } // for a message with an unknown stream ID
				if direction == staticPush {
					o.Static = map[string][]string{"live": {other.url("")}}
				}
			})
			more := func() {}
			if direction != domain.Pull {
				p, n := publishAudio(t, hub), 0
				more = func() { // the relay tries again when there is a new frame
					if err := p.Write(audioFrame(n)); err != nil {
						t.Fatal(err)
					}
					n++
				}
			}
			more()
			if direction == staticPush {
				defer runStatic(m)()
			} else if _, err := m.Start(t.Context(),
				domain.Relay{Direction: direction, Name: movie, URL: other.url("movie")}); err != nil {
				t.Fatal(err)
			}
			s := awaitState(t, m, func(s domain.RelayStatus) bool {
				more()
				return s.State == stateFailed && s.Attempts == 2
			})
			if s.Error != errPanic.Error() {
				t.Errorf("status %+v", s)
			}
			if info, ok := hub.Info(movie); !ok || info.Held != (direction == domain.Pull) || info.Off != nil {
				t.Errorf("the stream is %+v", info)
			}
			m.Close()
			if n := strings.Count(log.String(), "test panic"); n != 1 {
				t.Errorf("the log has the panic %d times:\n%s", n, log.String())
			}
		})
	}
}
