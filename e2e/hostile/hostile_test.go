// Package hostile throws at the real server what no honest peer sends, and holds it to its
// promises: each input gets its documented reply, the process stays up and small, nobody else
// notices, and nothing is left behind. Bytes are made by hand here, with nothing of the server's
// own code, so that one mistake cannot hide on both sides.
//
// The names of the tests begin with the number of the promise: H are handshakes, C chunks, M AMF0,
// S commands, V media, N names, W the viewers' HTTP, P the operator's and T tokens and hooks.
package hostile

import (
	"flag"
	"os"
	"sync/atomic"
	"testing"

	"livego/e2e/harness"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for the server to do nothing wrong: they take no processor. The command line still wins.
	flag.Set("test.parallel", "12")
	os.Exit(harness.Main(m))
}

// A row is one input and its reply.
type row struct {
	name string
	at   stage       // where by the book ends
	send []byte      // sent then
	do   func(*peer) // done then
	want expectation // what has to come of it
}

// A table is a table of rows.
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
			"H12": everyHandshakeCut, "C37": everySessionCut, "HTTP": httpRequests, "WebSocket": webSockets, "keys": revokedKeys,
			"mutations": mutations,
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
