package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// nobody is the user ID of a system account that every Linux has.
const nobody = 65534

// A prometheus is a running Prometheus.
type prometheus struct {
	t   *testing.T
	api string
}

// startPrometheus starts Prometheus with the example of deploy/prometheus, which then scrapes target
// every second. As root, it runs as a system account, as that of Debian does.
func startPrometheus(t *testing.T, target string) prometheus {
	t.Helper()
	dir, err := os.MkdirTemp("", "livego-prometheus") // not t.TempDir, which only the owner can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"prometheus.yml", "livego.rules.yml"} {
		text, err := os.ReadFile("../deploy/prometheus/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "prometheus.yml" {
			changed := strings.NewReplacer("localhost:8090", target, "_interval: 15s", "_interval: 1s").Replace(string(text))
			if strings.Count(changed, target) != 1 || strings.Count(changed, "_interval: 1s") != 2 {
				t.Fatalf("the example has changed:\n%s", text)
			}
			text = []byte(changed)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	addr := fmt.Sprintf("127.0.0.1:%d", harness.FreePorts(t, 1)[0])
	args := []string{"--config.file=" + filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--log.level=warn"}
	if os.Getuid() == 0 {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		harness.StartProgramAs(t, nobody, "prometheus", args...)
	} else {
		harness.StartProgram(t, "prometheus", args...)
	}
	return prometheus{t, "http://" + addr + "/api/v1/"}
}

// get requests a path of the API, and decodes the data of the response.
func (p prometheus) get(path string, data any) error {
	resp, err := harness.Client().Get(p.api + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var reply struct {
		Error string
		Data  json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d: %s", resp.StatusCode, reply.Error)
	}
	return json.Unmarshal(reply.Data, data)
}

// query evaluates a query. It returns the values that are numbers.
func (p prometheus) query(expr string) (values []string, err error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	err = p.get("query?query="+url.QueryEscape(expr), &data)
	for _, r := range data.Result {
		if v := fmt.Sprint(r.Value[1]); v != "NaN" {
			values = append(values, v)
		}
	}
	return values, err
}

// await waits until a query has a value.
func (p prometheus) await(expr string) {
	p.t.Helper()
	harness.Eventually(p.t, patience, expr, func() error {
		values, err := p.query(expr)
		if err == nil && len(values) == 0 {
			err = fmt.Errorf("no value")
		}
		return err
	})
}

// A dashboard is a dashboard of Grafana.
type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

// TestPrometheus has Prometheus scrape a server under load, evaluates every query of the dashboard and
// loads the alert rules.
func TestPrometheus(t *testing.T) {
	harness.Need(t, "ffmpeg", "prometheus", "promtool")
	t.Parallel()
	program := &webhookReceiver{}
	hook := httptest.NewServer(program)
	defer hook.Close()
	s := harness.Start(t, harness.Options{
		Flags: []string{"--hook.on_publish=" + hook.URL + "/ask", "--hook.on_play=" + hook.URL + "/ask",
			"--hook.events=" + hook.URL + "/events", "--flv_archive", "--flv_dir=" + t.TempDir(), "--metrics_streams=10",
			"--takeover=always"},
		Env: []string{"LIVEGO_HOOK_SECRET=" + hookSecret},
	})
	p := startPrometheus(t, s.Addr("api_addr"))
	p.await("livego_build_info") // rates count from the first scrape on

	src := load(t, sample.AV)
	harness.Livego(t, t.TempDir(), nil, "bench", "--publish", s.RTMP(s.Key("movie")), "--play", s.RTMP("movie"), "--play",
		s.FLV("movie"), "--play", "ws"+strings.TrimPrefix(s.FLV("movie"), "http"), "--play", "llhls+"+s.HLS("movie"),
		"-n", "16", "--join", "2s", "--settle", "1s", "-d", "1m")
	s.AwaitLive("movie")
	defer keepReporting(t, s, "movie")()
	first := s.Push(src.File(t), "other", "-stream_loop", "-1")
	s.AwaitLive("other")
	second := s.Push(src.File(t), "other", "-stream_loop", "-1")
	first.Wait(patience) // its stream was taken over
	second.Kill()        // and is held
	s.Push(src.File(t), "forbidden").Wait(patience)
	if status, _, err := httpGet(t.Context(), s.FLV("forbidden"), "", true); status != 403 {
		t.Errorf("watching a room that the webhook refuses: %d %v", status, err)
	}
	if status, _, err := httpGet(t.Context(), s.API("/control/get?room=movie"), "wrong", true); status != 403 {
		t.Errorf("a request with a wrong credential: %d %v", status, err)
	}

	for _, expr := range []string{
		`count(livego_viewers > 0) == 4`, `sum(livego_viewers) == 17`, `livego_streams{state="held"} == 1`,
		`count(rate(livego_viewer_sent_bytes_total[10s]) > 0) == 4`, `livego_recordings{state="recording"} == 2`,
		`increase(livego_publisher_takeovers_total[1m]) > 0`, `increase(livego_stream_holds_total[1m]) > 0`,
		`count(count by (action) (livego_refusals_total > 0)) == 3`,
		`rate(livego_hls_blocked_requests_total[10s]) > 0`, `rate(livego_hls_rendered_parts_total[10s]) > 0`,
		`increase(livego_webhook_events_delivered_total[1m]) > 0`, `livego_stream_up{room="movie"} == 1`,
	} {
		p.await(expr)
	}
	text, err := os.ReadFile("../deploy/grafana/livego.json")
	if err != nil {
		t.Fatal(err)
	}
	var board dashboard
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	queries := 0
	variables := strings.NewReplacer("$instance", ".+", "$__rate_interval", "10s")
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			queries++
			p.await(variables.Replace(target.Expr))
		}
	}
	if queries < 50 {
		t.Errorf("the dashboard has %d queries", queries)
	}
	p.checkRules()

	metrics := filepath.Join(t.TempDir(), "metrics")
	if err := os.WriteFile(metrics, harness.Get(t, s.API("/metrics")), 0o644); err != nil {
		t.Fatal(err)
	}
	harness.StartProgram(t, "sh", "-c", "promtool check metrics <"+metrics).WaitOK(patience)
}

// keepReporting watches a room as one player after the other, until stop is called. Each reports twice.
func keepReporting(t *testing.T, s *harness.Server, room string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	play := func(session string) error {
		leave, err := watchAs(ctx, s, room, session)
		if err != nil {
			return err
		}
		defer leave()
		for _, data := range []string{
			"bsa=(0),bsda=(0),livego-frames=25,livego-switches=0,dfa=0,ltc=900,msd=400",
			`bsa=(1),bsda=(300),livego-frames=75,livego-switches=1,dfa=2,ltc=900,ec=("network")`,
		} {
			if status, err := reportPlayback(s, session, data); err != nil || status != http.StatusNoContent {
				return fmt.Errorf("a report: HTTP %d, %w", status, err)
			}
			select { // reports in the same second do not count
			case <-time.After(1100 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			if err := play(fmt.Sprint("player-", n)); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// checkRules checks that each alert rule of deploy/prometheus is evaluated.
func (p prometheus) checkRules() {
	p.t.Helper()
	file, err := os.ReadFile("../deploy/prometheus/livego.rules.yml")
	if err != nil {
		p.t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	harness.Eventually(p.t, 30*time.Second, "the rules are evaluated", func() error {
		if err := p.get("rules", &rules); err != nil {
			return err
		}
		n := 0
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
				}
				n++
			}
		}
		if want := strings.Count(string(file), "- alert: "); n != want || n == 0 {
			return fmt.Errorf("%d rules, want %d", n, want)
		}
		return nil
	})
}

// TestAlertRules runs the tests of the alert rules.
func TestAlertRules(t *testing.T) {
	harness.Need(t, "promtool")
	t.Parallel()
	harness.StartProgram(t, "promtool", "test", "rules", "../deploy/prometheus/livego.rules.test.yml").WaitOK(patience)
	harness.StartProgram(t, "promtool", "check", "config", "../deploy/prometheus/prometheus.yml").WaitOK(patience)
}

// TestMetricsAddr checks that metrics_addr moves the metrics to a listener of their own, which has
// nothing else, and that the health checks stay.
func TestMetricsAddr(t *testing.T) {
	t.Parallel()
	addr := fmt.Sprintf("127.0.0.1:%d", harness.FreePorts(t, 1)[0])
	s := harness.Start(t, harness.Options{Flags: []string{"--metrics_addr=" + addr}})
	for target, want := range map[string]int{
		"http://" + addr + "/metrics": 200, "http://" + addr + "/healthz": 200, "http://" + addr + "/readyz": 200,
		"http://" + addr + "/": 404, "http://" + addr + "/control/get?room=movie": 404,
		"http://" + addr + "/debug/pprof/": 404, s.API("/metrics"): 404, s.API("/healthz"): 200, s.API("/readyz"): 200,
	} {
		if status, body, err := httpGet(t.Context(), target, "", true); status != want || err != nil {
			t.Errorf("%s: %d %.100s %v, want %d", target, status, body, err, want)
		}
	}
}
