package e2e

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// A reloadReport is what the test reads of livego bench --json.
type reloadReport struct {
	Viewers  struct{ Wanted, Joined, Lost int }
	Delivery struct{ Missing, Repeats, Corrupt int }
	Latency  struct{ Max float64 } `json:"latency_ms"`
	Bench    struct{ Void []string }
}

// TestReloadUnderViewers reloads settings of every kind 100 times while viewers of each protocol
// watch: none is disconnected and no frame is missing. In the long form there are 500 viewers of each
// protocol, no frame is more than 200 ms late, and the reloads leave memory and goroutines as they
// were.
func TestReloadUnderViewers(t *testing.T) {
	reloads, each, window := 20, 20, 3*time.Second
	if harness.Long() {
		reloads, each, window = 100, 500, 20*time.Second
	} else {
		t.Parallel()
	}
	hooks := httptest.NewServer(&webhookReceiver{})
	t.Cleanup(hooks.Close)
	cert, key, _ := harness.Certificate(t)
	tls := fmt.Sprintf("rtmps_cert: %s\nrtmps_key: %s\nenable_rtmps: true\nenable_https: true\nhls_segment: 1s\n",
		cert, key)
	other := tls + "level: debug\nconns_per_ip: 1000\nauth_failures: 5\nprivate: [live/other]\nhls_window: 10\n" +
		"token:\n  secret: " + tokenSecret + "\nhook:\n  secret: " + hookSecret + "\n  on_publish: " + hooks.URL +
		"\n  events: " + hooks.URL + "/events\nrelay_allow: [10.0.0.0/8]\nmax_latency: 5s\n" +
		"server:\n- appname: live\n- appname: vod\n  static_push: [rtmp://127.0.0.1:1/live]\n"
	s := startWithFile(t, tls, harness.Options{NoRace: true})
	address := func(proto string) string {
		secure := func(flag string) string { return s.Addr(flag) + "/live/viewers" }
		switch proto {
		case "rtmp":
			return s.RTMP("viewers")
		case "rtmps":
			return "rtmps://" + secure("rtmps_addr")
		case "flv":
			return s.FLV("viewers")
		case "https-flv":
			return "https://" + secure("https_addr") + ".flv"
		case "ws":
			return "ws" + strings.TrimPrefix(s.FLV("viewers"), "http")
		case "wss":
			return "wss://" + secure("https_addr") + ".flv"
		case "hls":
			return s.HLS("viewers")
		default:
			return "llhls+" + s.HLS("viewers")
		}
	}
	watch := func(t *testing.T, reload bool, protocols ...string) reloadReport {
		t.Helper()
		args := []string{"bench", "--publish", s.RTMP(s.Key("viewers")), "--bitrate", "300", "--gop", "1s", "--insecure",
			"-n", strconv.Itoa(each * len(protocols)), "--join", "2s", "-d", window.String(), "--json"}
		for _, p := range protocols {
			args = append(args, "--play", address(p))
		}
		bench := harness.Livego(t, t.TempDir(), nil, args...)
		bench.AwaitStderr(patience, func(log string) bool { return strings.Contains(log, "measuring") || bench.Ended() })
		n := 0
		for ; reload && n < reloads && !bench.Ended(); n++ {
			s.write([]string{other, tls}[n%2])
			s.call("POST", "/api/v1/config/reload", "", 200)
		}
		if reload && n < reloads/4 {
			t.Errorf("only %d reloads while viewers watched", n)
		}
		bench.Wait(window + patience) // its exit code also reports a busy machine
		var r reloadReport
		if err := json.Unmarshal([]byte(bench.Stdout()), &r); err != nil {
			t.Fatalf("livego bench: %v: %q\n%s", err, bench.Stdout(), bench.Stderr())
		}
		v, d := r.Viewers, r.Delivery
		if v.Joined != v.Wanted || v.Lost > 0 || d.Missing > 0 || d.Repeats > 0 || d.Corrupt > 0 {
			t.Errorf("%v: %+v", protocols, r)
		}
		s.write(tls)
		s.call("POST", "/api/v1/config/reload", "", 200)
		return r
	}
	protocols := []string{"rtmp", "rtmps", "flv", "https-flv", "ws", "wss", "hls", "llhls"}
	if !harness.Long() {
		watch(t, true, protocols...)
		return
	}
	for _, p := range protocols {
		t.Run(p, func(t *testing.T) {
			before := watch(t, false, p)
			goroutines, heap := s.Goroutines(), s.HeapBytes()
			during := watch(t, true, p)
			limit := 200.0
			if slices.Contains([]string{"hls", "llhls"}, p) { // a frame waits for the end of its segment or part
				limit += before.Latency.Max
			}
			t.Logf("latest frame: %.0f ms without reloads, %.0f ms with %d", before.Latency.Max, during.Latency.Max, reloads)
			if during.Latency.Max > limit {
				t.Errorf("a frame is %.0f ms late: %+v", during.Latency.Max, during)
			}
			harness.Eventually(t, patience, "goroutines and heap as before", func() error {
				if g, h := s.Goroutines(), s.HeapBytes(); g > goroutines+10 || h > heap+heap/10+4<<20 {
					return fmt.Errorf("%d goroutines, before %d; heap %d, before %d", g, goroutines, h, heap)
				}
				return nil
			})
		})
	}
}
