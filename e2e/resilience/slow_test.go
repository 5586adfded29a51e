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

// checkSlowViewer checks what a viewer received that was slower than the stream for a while:
// complete pieces. It returns the delay of the latest frame. A viewer that fetches segments chooses
// that delay itself.
func (sc *scenario) checkSlowViewer(v *viewer) (late time.Duration) {
	sc.t.Helper()
	late, seen := sc.maxDelay(v)
	sc.t.Logf("%v: %d frames, the latest %v late", v, seen, late)
	gap, missing := sc.maxStep, sc.maxMissing
	sc.maxStep, sc.maxMissing = maxWait, len(sc.log)
	sc.checkViewer(v)
	sc.maxStep, sc.maxMissing = gap, missing
	if all := len(sc.log); seen > all*9/10 && !v.segmented() {
		sc.t.Errorf("%v: received %d of %d frames: was it slow?", v, seen, all)
	}
	return late
}

// maxDelay returns the delay from sending to receiving of the latest frame that v received, and how
// many frames v received. It ignores frames that were sent before v started, because a viewer
// starts with older ones, and frames received after the last one was sent, because the rest comes
// as slowly as v reads it.
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

// TestSlowViewerDelay has viewers of every protocol read at a quarter of the stream's rate: no
// frame may be older than max_latency plus a second, the time that the last write needs at this
// rate. No other test runs at the same time, and viewers that read at full speed measure the delay
// of the machine.
func TestSlowViewerDelay(t *testing.T) {
	harness.Need(t, "ffmpeg")
	const (
		latency = 5 * time.Second
		most    = latency + time.Second
		quarter = 62_500 // bytes per second
	)
	cert, key, pool := harness.Certificate(t)
	server := harness.Start(t, harness.Options{NoRace: true,
		Flags: flags("--max_latency="+latency.String(), "--enable_rtmps=true", "--enable_https=true", "--rtmps_cert="+cert,
			"--rtmps_key="+key)})
	warmUp(t, server, server)
	before := measureBaseline(server)
	t.Run("group", func(t *testing.T) {
		sc := newScenario(t, server, "delay")
		trust := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
		var slow, fast []*viewer
		addViewers := func(when string, protos ...string) {
			for _, proto := range protos {
				s, f := newViewer(proto, "slow, "+when), newViewer(proto, "fast, "+when)
				s.tlsConfig, f.tlsConfig = trust, trust
				s.throttle = newThrottle(unlimited)
				slow, fast = append(slow, s), append(fast, f)
				sc.addViewer(s)
				sc.addViewer(f)
			}
		}
		// Those by HTTP/2 have a goroutine each, the others are in the loops of the fan-out.
		addViewers("early", "rtmp", "flv", "ws", "rtmps", "https", "h2", "wss")
		e := sc.startEncoder(loadClip(t, sample.HighBitrate))
		sc.awaitProgress(time.Second)
		addViewers("late", "rtmp", "ws", "rtmps")
		// More than the GOP with which they start: they have caught up.
		sc.awaitProgress(2 * time.Second)
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
		t.Logf("viewers at full speed are at most %v late", machine)
		for _, v := range slow {
			v.awaitEnd(t)
			if late := sc.checkSlowViewer(v); late > most+machine {
				t.Errorf("%v: a frame was %v late, want at most %v", v, late, most+machine)
			}
		}
	})
	before.check(t)
}

// benchReport is what the test reads of livego bench --json.
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

// TestSlowViewersDoNotDelayOthers measures many fast viewers alone, and together with slow ones at
// 64 kbit/s. The slow viewers skip, and the fast ones are not affected.
func TestSlowViewersDoNotDelayOthers(t *testing.T) {
	fast, slow, duration := 100, 10, 15*time.Second
	if harness.Long() {
		fast, slow, duration = 1000, 100, 30*time.Second
	} else {
		t.Parallel()
	}
	s := harness.Start(t, harness.Options{NoRace: true, Flags: []string{"--max_latency=5s"}})
	alone := benchWithSlowViewers(t, s, fast, 0, duration)
	among := benchWithSlowViewers(t, s, fast, slow, duration)
	t.Logf("p99 of the fast viewers: %.1f ms alone, %.1f ms with %d slow viewers", alone.Latency.P99, among.Latency.P99,
		slow)
	if !harness.Long() { // other tests are running
		return
	}
	if void := append(alone.Bench.Void, among.Bench.Void...); len(void) > 0 {
		t.Errorf("the machine was too busy to measure: %q", void)
	}
	if more := among.Latency.P99 - alone.Latency.P99; more > 50 {
		t.Errorf("the slow viewers delay the fast ones by %.1f ms, want at most 50 ms", more)
	}
}

// benchWithSlowViewers plays a stream to fast viewers, by livego bench, and to slow ones.
func benchWithSlowViewers(t *testing.T, s *harness.Server, fast, slow int, duration time.Duration) benchReport {
	t.Helper()
	const room, rate = "viewers", 64_000 / 8
	bench := harness.Livego(t, t.TempDir(), nil, "bench", "--publish", s.RTMP(s.Key(room)), "--bitrate", "1000", "--gop",
		"1s",
		"--play", s.RTMP(room), "--play", s.FLV(room), "--play", "ws"+strings.TrimPrefix(s.FLV(room), "http"),
		"-n", strconv.Itoa(fast), "--join", "1s", "--settle", "1s", "-d", duration.String(), "--json")
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
	harness.Eventually(t, maxWait, "only the slow viewers skip", func() error {
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
	bench.Wait(duration + maxWait) // its exit code also reports a busy machine
	var m benchReport
	if err := json.Unmarshal([]byte(bench.Stdout()), &m); err != nil {
		t.Fatalf("livego bench: %v: %q\n%s", err, bench.Stdout(), bench.Stderr())
	}
	if v, d := m.Viewers, m.Delivery; v.Joined != fast || v.Lost > 0 || d.Missing+d.Repeats+d.Corrupt > 0 ||
		d.Checked == 0 {
		t.Errorf("with %d slow viewers: %+v", slow, m)
	}
	return m
}
