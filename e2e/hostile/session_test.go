package hostile

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/rtmp"
)

const (
	handshakeLength = 1 + 2*1536
	commandsLength  = 900 // approximate, of those in wholeSession
)

// wholeSession returns 64 KiB of what an encoder sends that waits for no reply, from the handshake
// on.
func wholeSession(key string) []byte {
	b := join(rtmp.ClientHandshake(3), connect("live"), call(0, "releaseStream", 2, nil, key),
		call(0, "createStream", 3, nil), call(1, "publish", 4, nil, key, "live"),
		message{CSID: 6, Type: video, StreamID: 1, Payload: avcHeader}.DefaultChunks(),
		message{CSID: 4, Type: audio, StreamID: 1, Payload: aacHeader}.DefaultChunks())
	for n := 0; len(b) < 64<<10; n++ {
		b = append(b, message{CSID: 6, Type: video, StreamID: 1, Time: uint32(n * 40),
			Payload: keyFrame(filler(5000))}.DefaultChunks()...)
	}
	return b
}

// sessions returns a session for each worker, so that none waits for another's stream to end.
func (s *target) sessions(t *testing.T, name string) [][]byte {
	t.Helper()
	all := make([][]byte, workers)
	for w := range all {
		all[w] = wholeSession(s.streamKey(t, fmt.Sprint(name, w)))
	}
	return all
}

// endsWith sends b and FIN, and requires that the server closes.
func (s *target) endsWith(b []byte) error {
	nc, err := net.Dial("tcp", s.Addr("rtmp_addr"))
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(longTimeout))
	nc.Write(b) // on error the server has closed, or reads nothing, which the next lines check
	nc.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the connection was not closed")
	}
	return nil
}

// everySessionCut ends a session with FIN after each possible number of bytes. In the handshake and
// the media it only tries a sample, except in the long form.
func everySessionCut(t *testing.T, s *target) int {
	sessions := s.sessions(t, "cut")
	var cuts []int
	for cut := 0; cut < len(sessions[0]); {
		cuts = append(cuts, cut)
		switch {
		case harness.Long(), cut >= handshakeLength && cut < handshakeLength+commandsLength:
			cut++
		case cut < handshakeLength:
			cut += 31
		default:
			cut += 127
		}
	}
	inParallel(t, cuts, func(cut, worker int) error {
		if err := s.endsWith(sessions[worker][:cut]); err != nil {
			return fmt.Errorf("FIN after %d bytes: %w", cut, err)
		}
		return nil
	})
	return len(cuts)
}

// mutations sends sessions with random bytes after the handshake. The number of the session is its
// seed.
func mutations(t *testing.T, s *target) int {
	sessions := s.sessions(t, "mutated")
	rounds := 1000
	if harness.Long() {
		rounds = 100_000
	}
	var seeds []int
	for seed := range rounds {
		seeds = append(seeds, seed)
	}
	inParallel(t, seeds, func(seed, worker int) error {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		b := slices.Clone(sessions[worker])
		for range 1 + random.IntN(8) {
			at := handshakeLength + random.IntN(commandsLength)
			if random.IntN(4) == 0 {
				at = handshakeLength + random.IntN(len(b)-handshakeLength)
			}
			b[at] = byte(random.Uint32())
		}
		if err := s.endsWith(b); err != nil {
			return fmt.Errorf("mutation %d: %w", seed, err)
		}
		return nil
	})
	return rounds
}
