package hostile

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
)

func handshakeRows() []row {
	rows := []row{
		{name: "truncated C1", send: rtmp.ClientHandshake(3)[:1536], do: hangUp, want: closes},
		{name: "HTTP client", send: []byte("G"), want: closes},
		{name: "version 0x80", send: []byte{0x80}, want: closes},
		{name: "version 0x20", send: []byte{0x20}, want: closes},
		{name: "TLS client", send: []byte{0x16, 3}, do: func(p *peer) {
			closes(p)
			harness.Eventually(p.t, longTimeout, "a hint in the log", func() error {
				if !bytes.Contains([]byte(p.on.Stderr()), []byte("TLS")) {
					return fmt.Errorf("the log does not mention TLS")
				}
				return nil
			})
		}},
		{name: "RTMPE", send: []byte{6}, want: closes},
		// The reply to a C1 with a version but without a valid digest is the simple handshake: S2 is the
		// echo of C1.
		{name: "invalid digests", do: func(p *peer) { p.echoes(withVersion(rtmp.ClientHandshake(3), 9, 0, 124, 2)) },
			want: works},
		{name: "digest offsets 0xFF", do: func(p *peer) {
			c := withVersion(rtmp.ClientHandshake(3), 128, 0, 7, 2)
			for _, at := range []int{8, 772} {
				copy(c[1+at:], []byte{0xff, 0xff, 0xff, 0xff})
			}
			p.echoes(c)
		}, want: works},
		{name: "C2 of zeros", do: func(p *peer) {
			p.send(join(rtmp.ClientHandshake(3)[:1+1536], make([]byte, 1536)))
			p.readHandshake()
			p.at = handshaken
		}, want: works},
		{name: "all in one segment before S2", do: func(p *peer) {
			p.send(rtmp.ClientHandshake(3), connect("live"), call(0, "createStream", 2, nil))
			p.readHandshake()
			p.at = handshaken
			p.await("_result", "Connect.Success")
			p.readStreamCreated()
			p.at = connected
		}, want: works},
	}
	for v := range byte(32) {
		if v == 3 || v == 6 || v == 0x16 { // RTMP itself, RTMPE and TLS
			continue
		}
		rows = append(rows, row{name: fmt.Sprintf("version %d", v), do: func(p *peer) {
			p.send(rtmp.ClientHandshake(v))
			p.readHandshake() // with S0 = 3, §5.2.2
			p.at = handshaken
		}, want: works})
	}
	return rows
}

// withVersion sets a player's version in C1, which then claims to have a digest.
func withVersion(c []byte, version ...byte) []byte {
	copy(c[1+4:], version)
	return c
}

// echoes requires a simple handshake as the reply to c.
func (p *peer) echoes(c []byte) {
	p.t.Helper()
	p.send(c)
	s := p.readHandshake()
	if !bytes.Equal(s[1+1536+8:], c[1+8:1+1536]) {
		p.t.Error("S2 is no echo of C1")
	}
	p.at = handshaken
}

// hangUp sends FIN.
func hangUp(p *peer) {
	p.t.Helper()
	if err := p.NetConn.(*net.TCPConn).CloseWrite(); err != nil {
		p.t.Fatal(err)
	}
}

// everyHandshakeCut sends a handshake and a connect in two segments, divided at each byte in turn.
func everyHandshakeCut(t *testing.T, s *target) int {
	whole := rtmp.ClientHandshake(3)
	var cuts []int
	for cut := 1; cut < len(whole); cut++ {
		cuts = append(cuts, cut)
	}
	inParallel(t, cuts, func(cut, _ int) error {
		nc, err := net.Dial("tcp", s.Addr("rtmp_addr"))
		if err != nil {
			return err
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(longTimeout))
		nc.Write(whole[:cut])
		nc.Write(join(whole[cut:], connect("live")))
		// After the handshake: the start of a reply to connect.
		if _, err := io.ReadFull(nc, make([]byte, len(whole)+16)); err != nil {
			return fmt.Errorf("cut at byte %d: %w", cut, err)
		}
		return nil
	})
	return len(cuts)
}

// workers is how many connections inParallel uses at a time.
const workers = 4

// inParallel calls f for each of items, with the number of the worker that it runs on.
func inParallel(t *testing.T, items []int, f func(item, worker int) error) {
	t.Helper()
	queue := make(chan int)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for item := range queue {
				if err := f(item, w); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	running.Wait()
}
