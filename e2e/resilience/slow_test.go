package resilience

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// checkSlowViewer looks at what a viewer received who could not take all of it for a while: whole
// pieces. It returns how late the latest was; who fetches segments chooses that himself.
func (sc *scenario) checkSlowViewer(v *viewer) (late time.Duration) {
	sc.t.Helper()
	late, seen := sc.maxDelay(v)
	sc.t.Logf("%v: %d frames, the latest %v late", v, seen, late)
	gap, missing := sc.maxStep, sc.maxMissing
	sc.maxStep, sc.maxMissing = maxWait, len(sc.log)
	sc.checkViewer(v)
	sc.maxStep, sc.maxMissing = gap, missing
	if all := len(sc.log); seen > all*9/10 && !v.segmented() {
		sc.t.Errorf("%v: he got %d of %d frames: was he slow?", v, seen, all)
	}
	return late
}

// maxDelay returns how long after it was sent the latest frame came to v, of those that were sent
// while he watched and came while there was more to come, and how many came at all. What he begins
// with is older, and what is left when the stream has ended comes as slowly as he takes it.
func (sc *scenario) maxDelay(v *viewer) (late time.Duration, seen int) {
	sentAt := map[string]time.Time{}
	sc.mu.Lock()
	for _, s := range sc.log {
		sentAt[string(s.tag.Body)] = s.at
	}
	end := sc.log[len(sc.log)-1].at
	sc.mu.Unlock()
	for _, t := range v.tags {
		if at, ok := sentAt[string(t.Body)]; ok {
			seen++
			if at.After(v.tags[0].at) && t.at.Before(end) {
				late = max(late, t.at.Sub(at))
			}
		}
	}
	return late, seen
}

// TestSlowViewerDelay has viewers of every protocol read at a quarter of the stream's rate: what
// each of them sees is never older than max_latency and a second, in which the last piece comes
// through his line. It waits for no other test, so that the machine is as quiet as it gets; by how
// much it is late is seen by those who read as it comes.
func TestSlowViewerDelay(t *testing.T) {
	harness.Need(t, "ffmpeg")
	const (
		latency = 5 * time.Second
		most    = latency + time.Second
		quarter = 62_500 // bytes a second
	)
	cert, key, pool := harness.Certificate(t)
	server := harness.Start(t, harness.Options{NoRace: true,
		Flags: flags("--max_latency="+latency.String(), "--enable_rtmps=true", "--enable_https=true", "--rtmps_cert="+cert,
			"--rtmps_key="+key)})
	warmUp(t, server)
	left := measureBaseline(server)
	t.Run("group", func(t *testing.T) {
		sc := newScenario(t, server, "delay")
		trust := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
		var slow, fast []*viewer
		audience := func(when string, protos ...string) {
			for _, proto := range protos {
				s, f := newViewer(proto, "slow, "+when), newViewer(proto, "fast, "+when)
				s.tlsConfig, f.tlsConfig = trust, trust
				s.throttle = newThrottle(unlimited)
				slow, fast = append(slow, s), append(fast, f)
				sc.addViewer(s)
				sc.addViewer(f)
			}
		}
		// a goroutine for each who waits for the stream, or has TLS
		audience("early", "rtmp", "flv", "ws", "rtmps", "https", "h2", "wss")
		e := sc.startEncoder(loadClip(t, sample.HighBitrate))
		sc.awaitProgress(time.Second)
		audience("late", "rtmp", "ws", "rtmps")
		sc.awaitProgress(2 * time.Second) // more than the GOP with which they begin: they have caught up
		for _, v := range slow {
			v.throttle.setRate(quarter)
		}
		sc.viewers = fast
		sc.awaitProgress(12 * time.Second)
		for _, v := range slow {
			v.throttle.setRate(unlimited)
		}
		sc.awaitProgress(time.Second)
		e.unpublish()
		var machine time.Duration
		for _, v := range fast {
			v.awaitEnd(t)
			late, _ := sc.maxDelay(v)
			machine = max(machine, late)
			sc.checkViewer(v)
		}
		t.Logf("what is read as it comes is %v late at most", machine)
		for _, v := range slow {
			v.awaitEnd(t)
			if late := sc.checkSlowViewer(v); late > most+machine {
				t.Errorf("%v: a frame came %v late, want at most %v", v, late, most+machine)
			}
		}
	})
	left.check(t)
}

// benchReport is what the test asks of livego bench --json.
type benchReport struct {
	Viewers struct {
		Wanted, Joined, Lost int
	}
	Delivery struct {
		Missing, Repeats, Corrupt, Checked int
	}
	Latency struct {
		P99 float64
	} `json:"latency_ms"`
	Bench struct {
		Void []string
	}
}

// TestSlowViewersDoNotDelayOthers has a crowd of fast viewers measured alone, and with slow ones
// among them whose lines take 64 kbit/s: these are moved on, and those do not notice.
func TestSlowViewersDoNotDelayOthers(t *testing.T) {
	fast, slow, lasts := 100, 10, 15*time.Second
	if harness.Long() {
		fast, slow, lasts = 1000, 100, 30*time.Second
	} else {
		t.Parallel()
	}
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--max_latency=5s"}})
	alone := benchWithSlowViewers(t, s, fast, 0, lasts)
	among := benchWithSlowViewers(t, s, fast, slow, lasts)
	t.Logf("p99 of the fast ones: %.1f ms alone, %.1f ms among %d slow ones", alone.Latency.P99, among.Latency.P99, slow)
	if !harness.Long() { // other tests are running
		return
	}
	if void := append(alone.Bench.Void, among.Bench.Void...); len(void) > 0 {
		t.Errorf("the machine was too busy to measure: %q", void)
	}
	if more := among.Latency.P99 - alone.Latency.P99; more > 50 {
		t.Errorf("the slow ones cost the fast ones %.1f ms, want at most 50 ms", more)
	}
}

// benchWithSlowViewers plays a stream to fast viewers and to slow ones.
func benchWithSlowViewers(t *testing.T, s *harness.Server, fast, slow int, lasts time.Duration) benchReport {
	t.Helper()
	const room, rate = "crowd", 64_000 / 8
	bench := harness.Livego(t, t.TempDir(), nil, "bench", "--publish", s.RTMP(s.Key(room)), "--bitrate", "1000", "--gop",
		"1s",
		"--play", s.RTMP(room), "--play", s.FLV(room), "--play", "ws"+strings.TrimPrefix(s.FLV(room), "http"),
		"-n", strconv.Itoa(fast), "--join", "1s", "--settle", "1s", "-d", lasts.String(), "--json")
	s.AwaitLive(room)
	viewers := make([]*viewer, slow)
	for n := range viewers {
		v := newViewer(allProtocols()[n%3], "slow")
		v.discard, v.throttle = true, newThrottle(unlimited)
		v.connect(s, room)
		defer v.stop()
		viewers[n] = v
	}
	for _, v := range viewers {
		v.await(t, func() bool { _, ok := v.progress(); return ok })
		v.throttle.setRate(rate)
	}
	harness.Eventually(t, maxWait, "slow viewers are moved on, and nobody else", func() error {
		moved := 0
		for _, p := range s.Stat().Players {
			if p.Skips > 0 {
				moved++
			}
		}
		if moved != slow {
			return fmt.Errorf("%d of %d", moved, slow)
		}
		return nil
	})
	bench.Wait(lasts + maxWait) // its exit code tells of a busy machine too
	var m benchReport
	if err := json.Unmarshal([]byte(bench.Stdout()), &m); err != nil {
		t.Fatalf("livego bench: %v: %q\n%s", err, bench.Stdout(), bench.Stderr())
	}
	if v, d := m.Viewers, m.Delivery; v.Joined != fast || v.Lost > 0 || d.Missing+d.Repeats+d.Corrupt > 0 ||
		d.Checked == 0 {
		t.Errorf("%d slow ones among them: %+v", slow, m)
	}
	return m
}
