package replica_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/cluster/replica"
	"livego/internal/cluster/wire"
	"livego/internal/stream"
)

// TestStreamThatStartsLate has a peer wait for a stream whose encoder has sent nothing yet. The owner shows
// that it is alive, and drops the connection of a peer that has gone.
func TestStreamThatStartsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := stream.NewHub(stream.Options{})
		defer hub.Close()
		source := replica.NewSource(hub, replica.SourceOptions{Node: "owner"})
		if _, err := hub.Publish(t.Context(), movie, stream.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		a, b := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		served := make(chan error, 1)
		go func() { served <- source.Serve(ctx, a, movie, 0) }()
		var tracks wire.Tracks
		r := wire.NewReader(b, &tracks)
		for range 3 {
			_ = b.SetReadDeadline(time.Now().Add(3 * time.Second))
			if record, err := r.Next(); err != nil || record != (wire.Ping{}) {
				t.Errorf("record %v, error %v", record, err)
				break
			}
		}
		b.Close()
		time.Sleep(3 * time.Second)
		select {
		case <-served:
		default:
			t.Error("the owner keeps the connection of a peer that has gone")
		}
	})
}
