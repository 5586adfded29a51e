package scenes

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/rig"
	"livego/e2e/sample"
)

// judgeSlow looks at what a viewer received who could not take all of it for a while: whole pieces. It returns how late the latest was;
// who fetches segments chooses that himself.
func (sc *scene) judgeSlow(v *viewer) (late time.Duration) {
	sc.t.Helper()
	late, seen := sc.delay(v)
	sc.t.Logf("%v: %d frames, the latest %v late", v, seen, late)
	gap, missing := sc.gap, sc.missing
	sc.gap, sc.missing = patience, len(sc.log)
	sc.judgeViewer(v)
	sc.gap, sc.missing = gap, missing
	if all := len(sc.log); seen > all*9/10 && !v.segmented() {
		sc.t.Errorf("%v: he got %d of %d frames: was he slow?", v, seen, all)
	}
	return late
}

// delay returns how long after it was sent the latest frame came to v, of those that were sent while he watched and came while there was
// more to come, and how many came at all. What he begins with is older, and what is left when the stream has ended comes as slowly as he
// takes it.
func (sc *scene) delay(v *viewer) (late time.Duration, seen int) {
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

// TestDelay has viewers of every protocol read at a quarter of the stream's rate: what each of them sees is never older than max_latency and
// a second, in which the last piece comes through his line. It waits for no other test, so that the machine is as quiet as it gets; by how
// much it is late is seen by those who read as it comes.
func TestDelay(t *testing.T) {
	rig.Need(t, "ffmpeg")
	const (
		latency = 5 * time.Second
		most    = latency + time.Second
		quarter = 62_500 // bytes a second
	)
	cert, key, pool := rig.Certificate(t)
	server := rig.Start(t, rig.Options{Plain: true, Flags: flags("--max_latency="+latency.String(), "--enable_rtmps=true", "--enable_https=true", "--rtmps_cert="+cert, "--rtmps_key="+key)})
	warmUp(t, server)
	left := leftovers(server)
	t.Run("group", func(t *testing.T) {
		sc := newScene(t, server, "delay")
		trust := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
		var slow, fast []*viewer
		audience := func(when string, protos ...string) {
			for _, proto := range protos {
				s, f := newViewer(proto, "slow, "+when), newViewer(proto, "fast, "+when)
				s.trust, f.trust = trust, trust
				s.tap = newTap(wideOpen)
				slow, fast = append(slow, s), append(fast, f)
				sc.add(s)
				sc.add(f)
			}
		}
		audience("early", "rtmp", "flv", "ws", "rtmps", "https", "h2", "wss") // a goroutine for each who waits for the stream, or has TLS
		e := sc.encode(load(t, sample.Heavy))
		sc.flows(time.Second)
		audience("late", "rtmp", "ws", "rtmps")
		sc.flows(2 * time.Second) // more than the GOP with which they begin: they have caught up
		for _, v := range slow {
			v.tap.turn(quarter)
		}
		sc.viewers = fast
		sc.flows(12 * time.Second)
		for _, v := range slow {
			v.tap.turn(wideOpen)
		}
		sc.flows(time.Second)
		e.goodbye()
		var machine time.Duration
		for _, v := range fast {
			v.wait(t)
			late, _ := sc.delay(v)
			machine = max(machine, late)
			sc.judgeViewer(v)
		}
		t.Logf("what is read as it comes is %v late at most", machine)
		for _, v := range slow {
			v.wait(t)
			if late := sc.judgeSlow(v); late > most+machine {
				t.Errorf("%v: a frame came %v late, want at most %v", v, late, most+machine)
			}
		}
	})
	left.check(t)
}

// measured is what the test asks of livego bench --json.
type measured struct {
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

// TestSlowAmongFast has a crowd of fast viewers measured alone, and with slow ones among them whose lines take 64 kbit/s: these are moved
// on, and those do not notice.
func TestSlowAmongFast(t *testing.T) {
	fast, slow, lasts := 100, 10, 15*time.Second
	if rig.Long() {
		fast, slow, lasts = 1000, 100, 30*time.Second
	} else {
		t.Parallel()
	}
	s := rig.Start(t, rig.Options{Plain: true, Flags: []string{"--max_latency=5s"}})
	alone := crowd(t, s, fast, 0, lasts)
	among := crowd(t, s, fast, slow, lasts)
	t.Logf("p99 of the fast ones: %.1f ms alone, %.1f ms among %d slow ones", alone.Latency.P99, among.Latency.P99, slow)
	if !rig.Long() { // other tests are running
		return
	}
	if void := append(alone.Bench.Void, among.Bench.Void...); len(void) > 0 {
		t.Errorf("the machine was too busy to measure: %q", void)
	}
	if more := among.Latency.P99 - alone.Latency.P99; more > 50 {
		t.Errorf("the slow ones cost the fast ones %.1f ms, want at most 50 ms", more)
	}
}

// crowd plays a stream to fast viewers and to slow ones.
func crowd(t *testing.T, s *rig.Server, fast, slow int, lasts time.Duration) measured {
	t.Helper()
	const room, rate = "crowd", 64_000 / 8
	bench := rig.Livego(t, t.TempDir(), nil, "bench", "--publish", s.RTMP(s.Key(room)), "--bitrate", "1000", "--gop", "1s",
		"--play", s.RTMP(room), "--play", s.FLV(room), "--play", "ws"+strings.TrimPrefix(s.FLV(room), "http"),
		"-n", strconv.Itoa(fast), "--join", "1s", "--settle", "1s", "-d", lasts.String(), "--json")
	s.AwaitLive(room)
	viewers := make([]*viewer, slow)
	for n := range viewers {
		v := newViewer(all()[n%3], "slow")
		v.forgetful, v.tap = true, newTap(wideOpen)
		v.begin(s, room)
		defer v.leave()
		viewers[n] = v
	}
	for _, v := range viewers {
		v.await(t, func() bool { _, ok := v.progress(); return ok })
		v.tap.turn(rate)
	}
	rig.Eventually(t, patience, "slow viewers are moved on, and nobody else", func() error {
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
	bench.Wait(lasts + patience) // its exit code tells of a busy machine too
	var m measured
	if err := json.Unmarshal([]byte(bench.Stdout()), &m); err != nil {
		t.Fatalf("livego bench: %v: %q\n%s", err, bench.Stdout(), bench.Stderr())
	}
	if v, d := m.Viewers, m.Delivery; v.Joined != fast || v.Lost > 0 || d.Missing+d.Repeats+d.Corrupt > 0 || d.Checked == 0 {
		t.Errorf("%d slow ones among them: %+v", slow, m)
	}
	return m
}
