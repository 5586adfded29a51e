package hostile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// TestLowMemory has a server run short of memory: it refuses first new publishers and then new
// viewers, and says why. Connected clients stay, and an encoder may reconnect. When memory is
// available again, the server accepts all.
func TestLowMemory(t *testing.T) {
	t.Parallel()
	// It collects garbage often, so that it knows the live heap at each step.
	s := startApps(t, harness.Options{Env: []string{"GOMEMLIMIT=64MiB", "GOGC=2"}, Flags: []string{"--publish_hold=20s",
		"--ring_size=256MiB", "--ring_time=10m", "--relay_allow=127.0.0.1"}})
	big := s.dial(t)
	big.advance(publishing)
	go io.Copy(io.Discard, big.NetConn) // acknowledgements

	const refused = "short of memory"
	big.fillRing(72) // 36 MiB
	if err := s.publishes(t, "before"); err != nil {
		t.Fatalf("with half of the memory in use: %v", err)
	}
	big.fillRingUntil(func() bool { return s.publishes(t, "more") != nil })
	if err := s.publishes(t, "more"); err == nil || !strings.Contains(err.Error(), "NetStream.Publish.Failed") ||
		!strings.Contains(err.Error(), refused) {
		t.Errorf("a new publisher: %v", err)
	}
	upstream := listen(t, func(net.Conn) {})
	doRequest(t, s.API(""), operatorCall{method: "GET",
		target: relayCall("pull", "start", "live", "pulled", "rtmp://"+upstream+"/live/x")})
	harness.Eventually(t, longTimeout, "a pull that is refused", func() error {
		_, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: "/api/v1/relays"})
		if !strings.Contains(body, refused) {
			return errors.New(body)
		}
		return nil
	})
	there := big.follow() // accepted
	if status, _ := s.ready(t); status != http.StatusOK {
		t.Errorf("/readyz returns %d while viewers are accepted", status)
	}
	big.fillRingUntil(func() bool { return s.watches(t, big.room) != http.StatusOK })
	for way, url := range map[string]string{"FLV": s.FLV(big.room), "HLS": s.HLS(big.room)} {
		if resp, body := doRequest(t, "",
			operatorCall{method: "GET", target: url}); resp.StatusCode != http.StatusServiceUnavailable ||
			!strings.Contains(body, refused) {
			t.Errorf("a new viewer by %s: HTTP %d %s", way, resp.StatusCode, body)
		}
	}
	player := s.dial(t)
	player.advance(connected)
	player.play(big.room)
	if m := player.await("onStatus", "NetStream.Play."); !bytes.Contains(m.Payload, []byte("NetStream.Play.Failed")) ||
		!bytes.Contains(m.Payload, []byte(refused)) {
		t.Errorf("a new player: %q", m.Payload)
	}
	if status, _ := s.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz returns %d", status)
	}
	there.await(big.newKeyFrame())

	big.NetConn.Close()
	harness.Eventually(t, longTimeout, "the encoder is gone", func() error {
		if live := s.WithT(t).Stat().Publishers; len(live) > 0 {
			return fmt.Errorf("%+v", live)
		}
		return nil
	})
	back := s.dial(t)
	back.room, back.key = big.room, big.key
	back.advance(publishing)
	s.hasDeniedEvent(t, "publish", refused)
	s.hasDeniedEvent(t, "play", refused)

	back.send(call(0, "deleteStream", 9, nil, int(back.StreamID)))
	harness.Eventually(t, longTimeout, "the memory is there again", func() error { return s.publishes(t, "after") })
	if status, body := s.ready(t); status != http.StatusOK {
		t.Errorf("/readyz returns %d %s", status, body)
	}
	for _, line := range []string{"memory is short: new publishers are refused",
		"memory is short: new publishers and viewers are refused", "memory is sufficient again"} {
		s.WithT(t).AwaitLog(longTimeout, line)
		if n := strings.Count(s.Stdout()+s.Stderr(), line); n > 3 {
			t.Errorf("the log has %d times %q", n, line)
		}
	}
}

// fillRing sends n keyframes of 512 KiB, and returns when the server has received them.
func (p *peer) fillRing(n int) {
	p.t.Helper()
	const size = 512 << 10
	want := p.received() + uint64(n)*size
	for range n {
		p.frame(keyFrame(bytes.Repeat([]byte{byte(p.sent) | 1}, size)))
	}
	harness.Eventually(p.t, longTimeout, "the server has it", func() error {
		if got := p.received(); got < want {
			return fmt.Errorf("%d of %d bytes", got, want)
		}
		return nil
	})
}

// received returns how many bytes of p's video the server has received.
func (p *peer) received() uint64 {
	p.t.Helper()
	for _, e := range p.on.WithT(p.t).Stat().Publishers {
		if e.Key == "live/"+p.room {
			return e.VideoTotalBytes
		}
	}
	p.t.Fatalf("%s is not published", p.room)
	return 0
}

// fillRingUntil sends one keyframe at a time, and waits for the server to measure its memory, until
// full returns true.
func (p *peer) fillRingUntil(full func() bool) {
	p.t.Helper()
	again := time.NewTicker(400 * time.Millisecond)
	defer again.Stop()
	for range 50 {
		if full() {
			return
		}
		p.fillRing(1)
		<-again.C
	}
	p.t.Fatal("the server accepts all frames")
}

// publishes returns why a room cannot be published, nil if it can; then it is published for a
// moment.
func (s *target) publishes(t *testing.T, room string) error {
	t.Helper()
	p := s.dial(t)
	defer p.NetConn.Close()
	p.room = room
	p.advance(connected)
	p.publish(p.streamKey())
	if m := p.await("onStatus", "NetStream.Publish."); !bytes.Contains(m.Payload, []byte("NetStream.Publish.Start")) {
		return fmt.Errorf("%q", m.Payload)
	}
	p.send(call(0, "deleteStream", 9, nil, int(p.StreamID)))
	return nil
}

// watches returns the status of a new viewer by HTTP-FLV.
func (s *target) watches(t *testing.T, room string) int {
	t.Helper()
	resp, err := harness.Client().Get(s.FLV(room))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (s *target) ready(t *testing.T) (int, string) {
	t.Helper()
	resp, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: "/readyz"})
	return resp.StatusCode, body
}

// hasDeniedEvent requires a refusal in the list of events.
func (s *target) hasDeniedEvent(t *testing.T, what, reason string) {
	t.Helper()
	_, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: "/api/v1/events?type=denied"})
	var list struct {
		Events []struct{ What, Reason string }
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list.Events, func(e struct{ What, Reason string }) bool {
		return e.What == what && strings.Contains(e.Reason, reason)
	}) {
		t.Errorf("no event of a refused %s: %s", what, body)
	}
}
