package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// A streamHealth is the part of a stream in the API that these tests check.
type streamHealth struct {
	Health []struct {
		Code, Severity, Text string
		Since                time.Time
	}
	Samples []struct {
		At        time.Time
		VideoKbps float64 `json:"video_kbps"`
	}
}

// A pushedStream is a stream that a test pushes, and the findings that it had.
type pushedStream struct {
	sample.LiveStream
	t    *testing.T
	s    *harness.Server
	push chan error // has the error of the push when it has ended

	found bool // its finding has been seen
}

// pushLive pushes a stream, which repeats its clips so many times. It goes on until the test has ended.
func pushLive(t *testing.T, s *harness.Server, l sample.LiveStream, times int) *pushedStream {
	t.Helper()
	p := &pushedStream{LiveStream: l, t: t, s: s, push: make(chan error, 1)}
	tags, key := l.Tags(t, times), s.Key(l.Name)
	go func() { p.push <- pushTimed(s.Addr("rtmp_addr"), key, tags, func() error { return nil }) }()
	return p
}

// health returns the findings and the history.
func (p *pushedStream) health() (h streamHealth) {
	p.t.Helper()
	resp, body, err := fetch(p.t.Context(), harness.Client(), p.s.API("/api/v1/streams/live/"+p.Name+"/history"))
	if err == nil && resp.StatusCode == 200 {
		err = json.Unmarshal(body, &h)
	}
	if err != nil {
		p.t.Errorf("%s: %v: %s", p.Name, err, body)
	}
	return h
}

// check checks that the stream has no other finding than its own, with its sentence at first, and
// reports whether it has had that.
func (p *pushedStream) check() bool {
	p.t.Helper()
	for _, f := range p.health().Health {
		if f.Code != p.Finding || !p.found && !strings.Contains(f.Text, p.Text) {
			p.t.Errorf("%s: %s: %s, want %q with %q", p.Name, f.Code, f.Text, p.Finding, p.Text)
		}
		p.found = true
	}
	return p.found
}

// awaitFinding waits until the stream has its finding.
func (p *pushedStream) awaitFinding(limit time.Duration) {
	p.t.Helper()
	for began := time.Now(); !p.check(); {
		select {
		case err := <-p.push:
			p.t.Fatalf("%s: the push has ended: %v", p.Name, err)
		case <-time.After(200 * time.Millisecond):
		}
		if time.Since(began) > limit {
			p.t.Fatalf("%s: no finding after %v, want %s", p.Name, limit, p.Finding)
		}
	}
}

// streamNamed returns the stream of the list with this name.
func streamNamed(t *testing.T, list []sample.LiveStream, name string) sample.LiveStream {
	t.Helper()
	for _, l := range list {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no stream is named %s", name)
	return sample.LiveStream{}
}

// TestStreamDoctor pushes three streams with a fault and a healthy one. The API, the events, the log and
// livego probe report the faults, and nothing else.
func TestStreamDoctor(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	var faulty []*pushedStream
	for _, name := range []string{"gop", "b-frames", "no-sps"} {
		faulty = append(faulty, pushLive(t, s, streamNamed(t, sample.FaultyStreams(), name), 1))
	}
	healthy := pushLive(t, s, streamNamed(t, sample.HealthyStreams(), "obs-x264"), 1)
	s.AwaitLive("b-frames")
	probed := async(func() ([]byte, error) {
		out, err := exec.Command(harness.Binary(t, false), "probe", "--json", "--for=5s", s.RTMP("b-frames")).Output()
		if len(out) > 0 {
			err = nil // the exit code is that of remarks
		}
		return out, err
	})
	for _, p := range faulty {
		p.awaitFinding(patience)
	}
	if healthy.check() {
		t.Error("the healthy stream has a finding")
	}
	if h := healthy.health(); len(h.Samples) < 5 || h.Samples[len(h.Samples)-2].VideoKbps < 500 {
		t.Errorf("the healthy stream has the history %+v", h.Samples)
	}

	out, err := probed()
	var reports []probeReport
	if err == nil {
		err = json.Unmarshal(out, &reports)
	}
	if err != nil || len(reports) != 1 || len(reports[0].Remarks) != 1 || reports[0].Remarks[0].Code != "b_frames" {
		t.Errorf("livego probe: %v, %s", err, out)
	}

	_, body, err := fetch(t.Context(), harness.Client(), s.API("/api/v1/events?type=finding"))
	var list struct {
		Events []struct {
			Type, Room, Reason string
			Fields             struct{ Finding string }
		}
	}
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	if err != nil || len(list.Events) != len(faulty) {
		t.Errorf("events: %v, %s", err, body)
	}
	for _, p := range faulty {
		if !strings.Contains(string(body), fmt.Sprintf(`"room":%q,"reason":`, p.Name)) ||
			!strings.Contains(string(body), fmt.Sprintf(`"finding":%q`, p.Finding)) {
			t.Errorf("no event of %s: %s", p.Name, body)
		}
		s.AwaitLog(patience, "stream=live/"+p.Name+" finding="+p.Finding)
	}
}

// TestStreamDoctorForTenMinutes pushes all streams with a fault for three minutes, and healthy ones for
// ten, at the same time. Each of the first gets its finding and no other, the others get none.
func TestStreamDoctorForTenMinutes(t *testing.T) {
	if !harness.Long() {
		t.Skip("TEST_LONG is not set")
	}
	harness.Need(t, "ffmpeg")
	s := harness.Start(t, harness.Options{NoRace: true})
	var watched sync.WaitGroup
	watch := func(p *pushedStream, d time.Duration) {
		watched.Go(func() {
			for began := time.Now(); time.Since(began) < d; <-time.After(time.Second) {
				select {
				case err := <-p.push:
					if err != nil {
						t.Errorf("%s: %v", p.Name, err)
					}
					d = 0
				default:
					p.check()
				}
			}
			if p.found != (p.Finding != "") {
				t.Errorf("%s: has a finding: %v, want %q", p.Name, p.found, p.Finding)
			}
		})
	}
	for _, l := range sample.FaultyStreams() {
		p := pushLive(t, s, l, 6)
		watch(p, 3*time.Minute)
	}
	for _, l := range sample.HealthyStreams() {
		p := pushLive(t, s, l, 20)
		watch(p, 10*time.Minute)
	}
	watched.Wait()
}
