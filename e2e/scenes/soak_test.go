package scenes

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"livego/e2e/rig"
	"livego/e2e/sample"
)

// A soak is how long and how hard.
type soak struct {
	lasts      time.Duration
	publishers int
	viewers    int
	churn      time.Duration // between two viewers who leave and are replaced
	loss       time.Duration // between two publishers who are lost; each is back after half of it
	report     time.Duration // between two lines
	slack      int           // bytes by which the heap may grow beyond a tenth
	flags      []string
}

// theSoak is the short one, that of TEST_SOAK=40m when that is set (make soak).
func theSoak(t *testing.T) soak {
	t.Helper()
	text := os.Getenv("TEST_SOAK")
	if text == "" {
		// The segments of HLS are still growing in number all the while.
		return soak{24 * time.Second, 4, 40, 200 * time.Millisecond, 4 * time.Second, 2 * time.Second, 8 << 20, flags("--hls_session_timeout=2s")}
	}
	lasts, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("TEST_SOAK: %v", err)
	}
	return soak{lasts, 20, 300, 200 * time.Millisecond, 20 * time.Second, min(time.Minute, lasts/12), 2 << 20, nil}
}

// TestSoak runs streams, viewers who come and go, and encoders that are lost and come back, for as long as it may. No viewer may be
// ended but by himself; and memory, goroutines and descriptors are to be flat after the first quarter.
func TestSoak(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	o := theSoak(t)
	sk := &soaking{soak: o, t: t, s: rig.Start(t, rig.Options{Plain: true, Flags: o.flags})}
	sk.start()
	sk.run()
	sk.judge()
}

type soaking struct {
	soak
	t *testing.T
	s *rig.Server

	rooms    []*scene
	encoders []*encoder // by room
	viewers  []*viewer
	arrivals int
	losses   int
	lost     int // room whose encoder is away; -1: none
	samples  []sampled
}

// sampled is what the server held at one time.
type sampled struct {
	heap, rss, goroutines, fds int
}

func (sk *soaking) start() {
	sk.lost = -1
	c := load(sk.t, sample.Small)
	for n := range sk.publishers {
		sc := newScene(sk.t, sk.s, fmt.Sprintf("soak%d", n))
		sc.forgetful = true
		sk.rooms = append(sk.rooms, sc)
		sk.encoders = append(sk.encoders, sc.encode(c))
	}
	for range sk.soak.viewers {
		sk.viewers = append(sk.viewers, sk.arrive())
	}
	sk.t.Cleanup(func() {
		for _, v := range sk.viewers {
			v.leave()
		}
	})
}

// arrive adds a viewer: of each protocol in turn, and of each room.
func (sk *soaking) arrive() *viewer {
	v := newViewer(all()[sk.arrivals%len(all())], "soaking")
	v.forgetful = true
	v.begin(sk.s, sk.rooms[sk.arrivals/len(all())%len(sk.rooms)].room)
	sk.arrivals++
	return v
}

func (sk *soaking) run() {
	end := time.NewTimer(sk.lasts)
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
			sk.disturb()
		case <-report.C:
			sk.sample()
		case <-end.C:
			return
		}
	}
}

// replace lets one viewer leave, who must have been there until now, and another come.
func (sk *soaking) replace() {
	n := rand.IntN(len(sk.viewers))
	v := sk.viewers[n]
	select {
	case <-v.done:
		sk.t.Errorf("%v was ended: %v", v, v.err)
	default:
	}
	v.leave()
	sk.viewers[n] = sk.arrive()
}

// disturb loses an encoder, in one of the ways that there are, or brings the one back that was lost.
func (sk *soaking) disturb() {
	if n := sk.lost; n >= 0 {
		sk.encoders[n] = sk.rooms[n].takeOver(load(sk.t, sample.Small))
		sk.lost = -1
		return
	}
	sk.lost = sk.losses % len(sk.rooms)
	lose := [](func(*encoder)){(*encoder).fin, (*encoder).reset, (*encoder).stop}[sk.losses%3]
	lose(sk.encoders[sk.lost])
	sk.losses++
}

func (sk *soaking) sample() {
	sk.t.Helper()
	now := sampled{sk.s.Heap(), sk.s.Memory("VmRSS"), sk.s.Goroutines(), sk.s.FDs()}
	sk.samples = append(sk.samples, now)
	sk.t.Logf("%v: %.1f MiB live, %d MiB resident, %d goroutines, %d descriptors; %d viewers came, %d encoders were lost",
		time.Duration(len(sk.samples))*sk.report, float64(now.heap)/(1<<20), now.rss, now.goroutines, now.fds, sk.arrivals, sk.losses)
}

// judge compares the last quarter with the second.
func (sk *soaking) judge() {
	sk.t.Helper()
	for _, v := range sk.viewers {
		select {
		case <-v.done:
			sk.t.Errorf("%v was ended: %v", v, v.err)
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
		of   func(sampled) int
		most int // more than a tenth
	}{
		{"live bytes", func(s sampled) int { return s.heap }, sk.slack},
		{"MiB resident", func(s sampled) int { return s.rss }, 16},
		{"goroutines", func(s sampled) int { return s.goroutines }, 10},
		{"descriptors", func(s sampled) int { return s.fds }, 10},
	} {
		was, is := median(early, c.of), median(late, c.of)
		if is > was+was/10+c.most {
			sk.t.Errorf("%d %s at the end, %d after a quarter of the time", is, c.what, was)
		}
	}
}

func median(s []sampled, of func(sampled) int) int {
	var values []int
	for _, x := range s {
		values = append(values, of(x))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
