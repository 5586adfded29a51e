package node

import (
	"slices"
	"testing"
	"time"

	"livego/internal/media"
	"livego/internal/stream"
)

// BenchmarkDelay publishes pictures of 11 kB, 30 a second, and measures the time from the publisher's
// write to a reader at the owner, and to one at a replica. The times contain the wake-up of the reader.
func BenchmarkDelay(b *testing.B) {
	nodes := startNodes(b, "a", "b")
	p, err := nodes[0].hub.Publish(b.Context(), movie, stream.PublishOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.End(stream.Clean)
	track := &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000}
	write := func(i int) {
		f := &media.Frame{Track: track, Meta: &media.Meta{HasVideo: true}, DTS: time.Duration(i) * time.Second / 30,
			RAP: media.Keyframe, Arrived: time.Now(), Payload: make([]byte, 11_000)}
		f.PTS = f.DTS
		if err := p.Write(f); err != nil {
			b.Fatal(err)
		}
	}
	write(0)
	var readers [2]*stream.Subscriber
	for i, n := range nodes {
		if readers[i], err = n.hub.Subscribe(b.Context(), movie, stream.SubscribeOptions{GOPs: 1}); err != nil {
			b.Fatal(err)
		}
		defer readers[i].Leave()
	}
	buf := make([]*media.Frame, 8)
	read := func(s *stream.Subscriber) {
		if _, err := s.Next(b.Context(), buf); err != nil {
			b.Fatal(err)
		}
	}
	read(readers[0])
	read(readers[1])
	var delays []time.Duration
	tick := time.NewTicker(time.Second / 30)
	defer tick.Stop()
	b.ResetTimer()
	for i := 1; i <= b.N; i++ {
		<-tick.C
		start := time.Now()
		write(i)
		read(readers[0])
		owner := time.Since(start)
		read(readers[1])
		delays = append(delays, time.Since(start)-owner)
	}
	slices.Sort(delays)
	b.ReportMetric(float64(delays[len(delays)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds())/1000, "p99-ms")
}
