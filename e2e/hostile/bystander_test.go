package hostile

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"livego/e2e/harness"
)

// A bystander is a well-behaved encoder and player, which must not be affected by other clients.
// The encoder sends 25 frames a second, with a keyframe each second.
type bystander struct {
	t                 testing.TB
	encoder           *peer
	player            *peer
	stop              context.CancelFunc
	sending, watching chan struct{}

	sentAt   [bystanderFrames]atomic.Pointer[harness.Stopwatch] // by frame number
	sent     atomic.Int64
	worst    time.Duration // from write to read, less the delay of a busy machine
	stall    time.Duration // the same, with that delay
	received int
	problem  error
}

const (
	bystanderFrames = 25 * 600
	// maxDelay is how late a frame may be. The goal is 200 ms more than without attacks; the rest
	// is for the clock, which runs in the process that attacks.
	maxDelay = time.Second
)

// startBystander starts a bystander in a room of its own.
func (s *target) startBystander(t testing.TB, room string) *bystander {
	t.Helper()
	b := &bystander{t: t, encoder: s.dial(t), player: s.dial(t), sending: make(chan struct{}),
		watching: make(chan struct{})}
	b.encoder.room, b.player.room = room, room
	b.encoder.advance(publishing)
	b.player.advance(connected)
	b.player.play(room)
	b.player.await("onStatus", "NetStream.Play.Start")
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.encoder.NetConn.SetDeadline(time.Time{})
	go io.Copy(io.Discard, b.encoder.NetConn) // acknowledgements and pings
	go b.send(ctx)
	go b.watch()
	return b
}

// bystanderFrame returns the body of frame n: some kilobytes, different for each frame.
func bystanderFrame(n int) []byte {
	content := bytes.Repeat(fmt.Appendf(nil, "frame %08d;", n), 200)
	if n%25 == 0 {
		return keyFrame(content)
	}
	return interFrame(content)
}

func (b *bystander) send(ctx context.Context) {
	defer close(b.sending)
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for n := range bystanderFrames {
		watch := harness.StartStopwatch()
		b.sentAt[n].Store(&watch)
		if _, err := b.encoder.NetConn.Write(b.encoder.video(bystanderFrame(n)).DefaultChunks()); err != nil {
			return
		}
		b.sent.Store(int64(n + 1))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// watch reads frames until the stream ends.
func (b *bystander) watch() {
	defer close(b.watching)
	for {
		m, err := b.player.ReadMessage(longTimeout)
		if err != nil {
			b.problem = fmt.Errorf("the player's connection: %w", err)
			return
		}
		if m.IsCommand("onStatus") {
			return
		}
		// header, or the first keyframe
		if m.Type != video || m.Payload[1] == 0 || bytes.Contains(m.Payload, []byte(", frame ")) {
			continue
		}
		if !bytes.Equal(m.Payload, bystanderFrame(b.received)) {
			b.problem = fmt.Errorf("instead of frame %d the player got %.60q", b.received, m.Payload)
			return
		}
		all, late := b.sentAt[b.received].Load().Elapsed()
		b.worst, b.stall = max(b.worst, late), max(b.stall, all)
		b.received++
	}
}

// finish ends the encoder and checks what the player received.
func (b *bystander) finish() {
	b.t.Helper()
	b.stop()
	<-b.sending
	b.encoder.NetConn.Write(call(b.encoder.StreamID, "FCUnpublish", 4, nil, b.encoder.streamKey()))
	<-b.watching
	b.encoder.NetConn.Close()
	b.player.NetConn.Close()
	b.t.Logf("the bystander saw %d frames, the latest %v late", b.received, b.worst)
	if b.problem != nil {
		b.t.Error(b.problem)
	}
	if sent := int(b.sent.Load()); b.received != sent {
		b.t.Errorf("the bystander saw %d of %d frames", b.received, sent)
	}
	if b.worst > maxDelay {
		b.t.Errorf("a frame of the bystander was %v late", b.worst)
	}
}
