package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// A traceCollector receives traces by OTLP. It keeps the names of the spans of each trace, those of
// one protocol by "proto name".
type traceCollector struct {
	mu     sync.Mutex
	traces map[string][]string // "rtmp connect" by trace ID
	text   strings.Builder     // everything
	err    error
}

func (c *traceCollector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text.WriteString(request.String()); err != nil || r.Header.Get("X-Tenant") != "live" {
		c.err = fmt.Errorf("%s %v: %w", r.URL.Path, r.Header, err)
	}
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				id := hex.EncodeToString(span.TraceId)
				c.traces[id] = append(c.traces[id], span.Name)
			}
		}
	}
}

// has reports whether there is a trace with these spans.
func (c *traceCollector) has(spans string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, names := range c.traces {
		if strings.Join(names, " ") == spans {
			return nil
		}
	}
	return fmt.Errorf("traces %v", c.traces)
}

// knows reports whether there is a trace with that ID.
func (c *traceCollector) knows(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.traces[id] != nil
}

// TestTraces publishes and plays by every protocol, and checks the spans that a collector gets, and
// that the webhook's requests name their traces.
func TestTraces(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	traces := &traceCollector{traces: map[string][]string{}}
	otlp := httptest.NewServer(traces)
	defer otlp.Close()
	var mu sync.Mutex
	parents := map[string]string{} // traceparent by action
	program := &webhookReceiver{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		parents[r.URL.Path] = r.Header.Get("Traceparent")
		mu.Unlock()
		program.ServeHTTP(w, r)
	}))
	defer hook.Close()
	s := harness.Start(t, harness.Options{
		Flags: []string{"--otlp_endpoint=" + otlp.URL, "--hook.on_publish=" + hook.URL + "/publish",
			"--hook.on_play=" + hook.URL + "/play"},
		Env: []string{"LIVEGO_HOOK_SECRET=" + hookSecret, "LIVEGO_OTLP_HEADERS=X-Tenant=live"},
	})
	key := s.Key("movie")
	s.PushTo(load(t, sample.AV).File(t), s.RTMP(key), "-stream_loop", "-1")
	s.AwaitLive("movie")
	watchRTMP(t, s.RTMP("movie"))
	watchRTMP(t, s.FLV("movie"))
	watchRTMP(t, s.HLS("movie"))
	if status, _, err := httpGet(t.Context(), s.FLV("forbidden"), "", true); status != 403 {
		t.Errorf("watching a room that the webhook refuses: %d %v", status, err)
	}
	for _, spans := range []string{
		"connect authorize publish",     // the encoder
		"connect authorize first_frame", // a player by RTMP or FLV
		"connect authorize",             // of HLS, and the refused one
		"first_frame",                   // of HLS
	} {
		harness.Eventually(t, patience, spans, func() error { return traces.has(spans) })
	}
	harness.Eventually(t, patience, "the traces that the webhook was sent", func() error {
		mu.Lock()
		defer mu.Unlock()
		for action, parent := range parents {
			if fields := strings.Split(parent, "-"); len(fields) != 4 || !traces.knows(fields[1]) {
				return fmt.Errorf("%s: traceparent %q is of no trace", action, parent)
			}
		}
		if len(parents) != 2 {
			return fmt.Errorf("webhook requests %v", parents)
		}
		return nil
	})
	traces.mu.Lock()
	defer traces.mu.Unlock()
	text := traces.text.String()
	for _, proto := range []string{"rtmp", "flv", "hls"} {
		if !strings.Contains(text, `"`+proto+`"`) {
			t.Errorf("no span of %s", proto)
		}
	}
	if strings.Contains(text, key) {
		t.Error("a span has the stream key")
	}
	if traces.err != nil {
		t.Error(traces.err)
	}
}
