// Package hostile sends invalid and malicious input to the real server. Each input must get its
// documented reply; the process must stay up and small, other clients must not be affected, and
// nothing may be left behind. The bytes are built here, without the server's own code, so that one
// mistake cannot hide on both sides.
package hostile

import (
	"flag"
	"os"
	"sync/atomic"
	"testing"

	"livego/e2e/harness"
)

func TestMain(m *testing.M) {
	// Most of these tests wait and use no CPU. The command line still overrides this.
	flag.Set("test.parallel", "12")
	os.Exit(harness.Main(m))
}

// A row is one input and its expected effect.
type row struct {
	name string
	at   stage       // stage that a valid session reaches first
	send []byte      // sent then
	do   func(*peer) // called then
	want expectation // what must happen
}

// A table is a named list of rows.
type table struct {
	name string
	rows func() []row
}

// TestHostile runs every table against one server, while a bystander publishes and plays.
func TestHostile(t *testing.T) {
	server := start(t)
	bystander := server.startBystander(t, "bystander")

	var inputs atomic.Int64
	t.Run("group", func(t *testing.T) {
		for _, s := range []table{
			{"handshake", handshakeRows}, {"chunk", chunkRows}, {"control", controlRows}, {"amf", amfRows},
			{"metadata", metadataRows},
			{"command", commandRows}, {"publish", publishRows}, {"play", playRows}, {"video", videoRows}, {"audio", audioRows},
			{"enhanced", enhancedRows}, {"name", nameRows},
		} {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				for _, r := range s.rows() {
					t.Run(r.name, func(t *testing.T) {
						t.Parallel()
						inputs.Add(1)
						r.run(server.dial(t))
					})
				}
			})
		}
		for name, f := range map[string]func(*testing.T, *target) int{
			"truncated handshakes": everyHandshakeCut, "truncated sessions": everySessionCut, "HTTP": httpRequests,
			"WebSocket": webSockets, "keys": revokedKeys, "mutations": mutations,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				inputs.Add(int64(f(t, server)))
			})
		}
	})
	bystander.finish()
	server.audit(t, int(inputs.Load()))
}

func (r row) run(p *peer) {
	p.t.Helper()
	p.advance(r.at)
	if r.send != nil {
		p.send(r.send)
	}
	if r.do != nil {
		r.do(p)
	}
	if r.want != nil {
		r.want(p)
	}
}
