package api

import (
	"fmt"
	"testing"

	"livego/internal/domain"
	"livego/internal/stream"
)

// BenchmarkListSessions lists a page of 10,000 viewers and 100 streams, in the order of the hub and in
// another order.
func BenchmarkListSessions(b *testing.B) {
	s := newFixture(b, nil)
	for i := range 100 {
		name := domain.Name{App: "live", Room: fmt.Sprint("r", i)}
		s.publish(name, domain.KeyRef{})
		for range 100 {
			v, err := s.hub.Join(name, stream.ViewerOptions{Proto: "flv", Remote: "192.0.2.8:6000", Agent: "player"})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(v.Leave)
		}
	}
	for _, query := range []string{"", "?sort=-bytes,room", "?limit=1000", "?room=r50"} {
		b.Run(query, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if w := s.get("/api/v1/sessions" + query); w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
	b.Run("streams", func(b *testing.B) {
		for b.Loop() {
			if w := s.get("/api/v1/streams"); w.Code != 200 {
				b.Fatal(w.Code)
			}
		}
	})
}
