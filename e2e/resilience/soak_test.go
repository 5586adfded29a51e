package resilience

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// A soak has the duration and the load of a test.
type soak struct {
	duration   time.Duration
	publishers int
	viewers    int
	churn      time.Duration // time between two viewers that leave and are replaced
	loss       time.Duration // time between two lost publishers; each returns after half of it
	report     time.Duration // time between two reports
	slack      int           // bytes by which the heap may grow beyond a tenth
	flags      []string
}

// soakFromEnv returns the short soak, or the long one of TEST_SOAK=40m if that is set (make soak).
func soakFromEnv(t *testing.T) soak {
	t.Helper()
	text := os.Getenv("TEST_SOAK")
	if text == "" {
		// The number of HLS segments grows all the time.
		return soak{24 * time.Second, 4, 40, 200 * time.Millisecond, 4 * time.Second, 2 * time.Second, 8 << 20,
			flags("--hls_session_timeout=2s")}
	}
	duration, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("TEST_SOAK: %v", err)
	}
	return soak{duration, 20, 300, 200 * time.Millisecond, 20 * time.Second, min(time.Minute, duration/12), 2 << 20, nil}
}

// TestSoak runs streams, viewers that join and leave, and encoders that are lost and return, for a
// configured time. No viewer may be disconnected, and memory, goroutines and file descriptors must
// be constant after the first quarter.
func TestSoak(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	o := soakFromEnv(t)
	sk := &soakRun{soak: o, t: t, s: harness.Start(t, harness.Options{NoRace: true, Flags: o.flags})}
	sk.start()
	sk.run()
	sk.check()
}

type soakRun struct {
	soak
	t *testing.T
	s *harness.Server

	rooms    []*scenario
	encoders []*encoder // by room
	viewers  []*viewer
	joined   int
	losses   int
	lost     int // room whose encoder is away; -1: none
	samples  []usageSample
}

// A usageSample is the resource use of the server at one time.
type usageSample struct {
	heap, rss, goroutines, fds int
}

func (sk *soakRun) start() {
	sk.lost = -1
	c := loadClip(sk.t, sample.Small)
	for n := range sk.publishers {
		sc := newScenario(sk.t, sk.s, fmt.Sprintf("soak%d", n))
		sc.discard = true
		sk.rooms = append(sk.rooms, sc)
		sk.encoders = append(sk.encoders, sc.startEncoder(c))
	}
	for range sk.soak.viewers {
		sk.viewers = append(sk.viewers, sk.addViewer())
	}
	sk.t.Cleanup(func() {
		for _, v := range sk.viewers {
			v.stop()
		}
	})
}

// addViewer adds a viewer, of each protocol and each room in turn.
func (sk *soakRun) addViewer() *viewer {
	v := newViewer(allProtocols()[sk.joined%len(allProtocols())], "soaking")
	v.discard = true
	v.connect(sk.s, sk.rooms[sk.joined/len(allProtocols())%len(sk.rooms)].room)
	sk.joined++
	return v
}

func (sk *soakRun) run() {
	end := time.NewTimer(sk.duration)
	defer end.Stop()
	churn, loss, report := time.NewTicker(sk.churn), time.NewTicker(sk.loss/2), time.NewTicker(sk.report)
	defer churn.Stop()
	defer loss.Stop()
	defer report.Stop()
	for {
		select {
		case <-churn.C:
			sk.replace()
		case <-loss.C:
			sk.disruptEncoder()
		case <-report.C:
			sk.sample()
		case <-end.C:
			return
		}
	}
}

// replace ends one viewer, which must be connected, and adds another.
func (sk *soakRun) replace() {
	n := rand.IntN(len(sk.viewers))
	v := sk.viewers[n]
	select {
	case <-v.done:
		sk.t.Errorf("%v: disconnected: %v", v, v.err)
	default:
	}
	v.stop()
	sk.viewers[n] = sk.addViewer()
}

// disruptEncoder loses an encoder, in one of several ways, or restores the one that was lost.
func (sk *soakRun) disruptEncoder() {
	if n := sk.lost; n >= 0 {
		sk.encoders[n] = sk.rooms[n].takeOver(loadClip(sk.t, sample.Small))
		sk.lost = -1
		return
	}
	sk.lost = sk.losses % len(sk.rooms)
	lose := [](func(*encoder)){(*encoder).fin, (*encoder).reset, (*encoder).stop}[sk.losses%3]
	lose(sk.encoders[sk.lost])
	sk.losses++
}

func (sk *soakRun) sample() {
	sk.t.Helper()
	now := usageSample{sk.s.HeapBytes(), sk.s.MemoryMiB("VmRSS"), sk.s.Goroutines(), sk.s.OpenFiles()}
	sk.samples = append(sk.samples, now)
	sk.t.Logf("%v: %.1f MiB live, %d MiB resident, %d goroutines, %d file descriptors; %d viewers joined, %d encoders "+
		"were lost",
		time.Duration(len(sk.samples))*sk.report, float64(now.heap)/(1<<20), now.rss, now.goroutines, now.fds, sk.joined,
		sk.losses)
}

// check compares the last quarter with the second.
func (sk *soakRun) check() {
	sk.t.Helper()
	for _, v := range sk.viewers {
		select {
		case <-v.done:
			sk.t.Errorf("%v: disconnected: %v", v, v.err)
		default:
		}
	}
	quarter := len(sk.samples) / 4
	if quarter == 0 {
		sk.t.Fatalf("only %d samples", len(sk.samples))
	}
	early, late := sk.samples[quarter:2*quarter], sk.samples[len(sk.samples)-quarter:]
	for _, c := range []struct {
		what string
		of   func(usageSample) int
		most int // in addition to a tenth
	}{
		{"live bytes", func(s usageSample) int { return s.heap }, sk.slack},
		{"MiB resident", func(s usageSample) int { return s.rss }, 16},
		{"goroutines", func(s usageSample) int { return s.goroutines }, 10},
		{"file descriptors", func(s usageSample) int { return s.fds }, 10},
	} {
		was, is := median(early, c.of), median(late, c.of)
		if is > was+was/10+c.most {
			sk.t.Errorf("%d %s at the end, %d after a quarter of the time", is, c.what, was)
		}
	}
}

func median(s []usageSample, of func(usageSample) int) int {
	var values []int
	for _, x := range s {
		values = append(values, of(x))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
