package tracing

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"livego/internal/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A receiver is a collector that keeps the spans it gets.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*tracepb.Span
	head  http.Header
	path  string
}

func newReceiver(t *testing.T, status int) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || q.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("not OTLP: %v %v", q.Header, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.path, r.head = q.URL.Path, q.Header
		for _, resource := range request.ResourceSpans {
			if text := resource.Resource.String(); !strings.Contains(text, "livego") || !strings.Contains(text, "v9") {
				t.Errorf("resource %s", text)
			}
			for _, scope := range resource.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func newTracer(t *testing.T, o Options) *Tracer {
	t.Helper()
	o.Version = "v9"
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	tracer, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

// attributes returns the attributes of a span as "name=value name=value".
func attributes(s *tracepb.Span) string {
	var all []string
	for _, a := range s.Attributes {
		all = append(all, strings.TrimPrefix(a.Key, "livego.")+"="+a.Value.GetStringValue())
	}
	return strings.Join(all, " ")
}

type fakeAuthorizer struct {
	domain.Authorizer
	err    error
	parent string // traceparent of the request that it makes
}

func (a *fakeAuthorizer) Authorize(ctx context.Context, _ domain.AuthRequest) (domain.Grant, error) {
	h := http.Header{}
	Inject(ctx, h)
	a.parent = h.Get("Traceparent")
	return domain.Grant{Name: domain.Name{App: "live", Room: "movie"}}, a.err
}

// TestTrace sends the trace of a viewer: its spans belong together, and none has the key or the token.
func TestTrace(t *testing.T) {
	r := newReceiver(t, 200)
	tracer := newTracer(t, Options{Endpoint: r.URL, Headers: map[string]string{"X-Token": "t0k3n"}, Sample: 1})
	ctx, connect := tracer.Start(t.Context(), "connect")
	connect.End(nil)
	inner := &fakeAuthorizer{}
	a := tracer.Authorizer(inner)
	request := domain.AuthRequest{Action: domain.Publish, Name: "k3y", Token: "k3y", Proto: "rtmp"}
	if _, err := a.Authorize(ctx, request); err != nil {
		t.Fatal(err)
	}
	parent := inner.parent
	inner.err = domain.CodeErrorf(domain.Denied, domain.TokenExpired, "token expired")
	_, _ = a.Authorize(ctx, domain.AuthRequest{Action: domain.Play})
	name := domain.Name{App: "live", Room: "movie"}
	tracer.FirstFrame(ctx, name, "flv")(true)
	tracer.FirstFrame(ctx, name, "flv")(false)
	tracer.Shutdown(t.Context())

	want := []struct{ name, attributes, failure string }{
		{"connect", "", ""},
		{"authorize", "action=publish proto=rtmp app=live room=movie", ""},
		{"authorize", "action=play proto= kind=denied code=token_expired", "token expired"},
		{"first_frame", "app=live room=movie proto=flv", ""},
		{"first_frame", "app=live room=movie proto=flv kind=not found", "the viewer left before the first media"},
	}
	if r.path != "/v1/traces" || r.head.Get("X-Token") != "t0k3n" || len(r.spans) != len(want) {
		t.Fatalf("%s %v: %d spans, want %d", r.path, r.head, len(r.spans), len(want))
	}
	root := r.spans[0]
	for i, s := range r.spans {
		if s.Name != want[i].name || attributes(s) != want[i].attributes || s.Status.GetMessage() != want[i].failure {
			t.Errorf("span %d: %v, want %+v", i, s, want[i])
		}
		if !bytes.Equal(s.TraceId, root.TraceId) || i > 0 && !bytes.Equal(s.ParentSpanId, root.SpanId) {
			t.Errorf("span %d is not part of the trace: %v", i, s)
		}
	}
	if fields := strings.Split(parent, "-"); len(fields) != 4 || fields[0] != "00" || fields[3] != "01" {
		t.Errorf("traceparent %q", parent)
	}
}

// TestSample traces one session in a million: the others cost no span and are not sent.
func TestSample(t *testing.T) {
	r := newReceiver(t, 200)
	tracer := newTracer(t, Options{Endpoint: r.URL + "/own/path", Sample: 1_000_000})
	sampled := 0
	for range 100 {
		ctx, connect := tracer.Start(t.Context(), "connect")
		if connect.End(nil); tracer.FirstFrame(ctx, domain.Name{}, "") != nil {
			sampled++
		}
	}
	tracer.Shutdown(t.Context())
	if len(r.spans) > 10 || sampled > 10 {
		t.Errorf("%d spans and %d sampled sessions of 100", len(r.spans), sampled)
	}
}

// TestFailingCollector logs once that traces cannot be sent, without the URL.
func TestFailingCollector(t *testing.T) {
	r := newReceiver(t, 500)
	var log bytes.Buffer
	tracer := newTracer(t, Options{Endpoint: r.URL + "/own?k=s3cret", Sample: 1, Interval: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		_, span := tracer.Start(t.Context(), "connect")
		span.End(nil)
		if err := tracer.provider.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	tracer.Shutdown(t.Context())
	if text := log.String(); strings.Count(text, "cannot send traces") != 1 || strings.Contains(text, "s3cret") {
		t.Errorf("log:\n%s", text)
	}
	if r.path != "/own" {
		t.Errorf("path %s", r.path)
	}
}

// TestOffCostsNothing uses a nil Tracer as the edges do.
func TestOffCostsNothing(t *testing.T) {
	var tracer *Tracer
	a := &fakeAuthorizer{}
	if tracer.Authorizer(a) != domain.Authorizer(a) {
		t.Error("the authorizer is wrapped")
	}
	ctx, r, h := t.Context(), httptest.NewRequest("GET", "/", nil), http.Header{}
	n := testing.AllocsPerRun(100, func() {
		ctx, span := tracer.Start(ctx, "connect")
		span.Set("proto", "rtmp")
		span.SetStream(domain.Name{})
		span.End(nil)
		if tracer.Connect(r, "flv") != r || tracer.FirstFrame(ctx, domain.Name{}, "flv") != nil {
			t.Error("a trace is made")
		}
		Inject(ctx, h)
	})
	if n != 0 || len(h) != 0 {
		t.Errorf("%v allocations and headers %v, want none", n, h)
	}
	tracer.Shutdown(ctx)
}
