// Package tracing sends traces of how clients start to publish and to play to a collector, by OTLP
// over HTTP. A trace has short spans only: it is complete when its client publishes or has media. A
// nil *Tracer traces nothing and costs nothing.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"livego/internal/domain"
)

// Options configure a Tracer. Fields are required unless their comment says otherwise.
type Options struct {
	// Endpoint is the URL of the collector. Without a path, /v1/traces is added.
	Endpoint string
	Headers  map[string]string // of each request, for instance with a credential; may be nil
	Sample   int               // one session in so many is traced
	Version  string            // of the server
	// Interval is how often spans are sent. Default 5 s.
	Interval time.Duration
	Log      *slog.Logger
}

const (
	// exportTimeout is how long the collector may take to accept spans.
	exportTimeout = 10 * time.Second
	// maxQueue is how many spans wait to be sent. More are dropped: no client waits for a collector.
	maxQueue = 4096
	// errorInterval is how often a failing collector is logged.
	errorInterval = time.Minute
)

// A Tracer makes traces.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New returns a Tracer. It does not connect: a collector that is away loses spans, and the log says
// so. The caller must call Shutdown.
func New(o Options) (*Tracer, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("otlp_endpoint: invalid URL")
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	// WithRetry is off: the batch after it would wait for one that cannot be delivered.
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(u.String()),
		otlptracehttp.WithHeaders(o.Headers), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	if err != nil {
		return nil, err
	}
	batch := []sdk.BatchSpanProcessorOption{sdk.WithMaxQueueSize(maxQueue), sdk.WithExportTimeout(exportTimeout)}
	if o.Interval > 0 {
		batch = append(batch, sdk.WithBatchTimeout(o.Interval))
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&loggedExporter{SpanExporter: exporter, log: o.Log}, batch...),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(1/float64(o.Sample)))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "livego"),
			attribute.String("service.version", o.Version))),
	)
	return &Tracer{provider, provider.Tracer("livego")}, nil
}

// Shutdown sends the spans that wait, until ctx ends.
func (t *Tracer) Shutdown(ctx context.Context) {
	if t != nil {
		_ = t.provider.Shutdown(ctx) // loggedExporter has logged the error
	}
}

// A loggedExporter logs errors. The library would print them in its own way, with the URL.
type loggedExporter struct {
	sdk.SpanExporter
	log *slog.Logger

	mu     sync.Mutex
	logged time.Time
}

func (e *loggedExporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.logged.IsZero() || time.Since(e.logged) >= errorInterval {
		e.logged = time.Now()
		e.log.Warn("cannot send traces", "spans", len(spans), "err", err)
	}
	return nil
}

// A Span is one step of a session. A nil Span records nothing.
type Span struct{ span trace.Span }

// Start starts a span. It is part of the trace of ctx, or starts a new trace. The returned context is
// for the steps within or after it.
func (t *Tracer) Start(ctx context.Context, name string) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, name)
	return ctx, &Span{span}
}

// Set adds an attribute. Values are protocols, addresses and names of streams, never keys or tokens.
func (s *Span) Set(key, value string) {
	if s != nil {
		s.span.SetAttributes(attribute.String("livego."+key, value))
	}
}

// SetStream adds the name of a stream.
func (s *Span) SetStream(name domain.Name) {
	if s != nil {
		s.Set("app", name.App)
		s.Set("room", name.Room)
	}
}

// End ends the span. err is why the step has failed, nil if it has not. Later calls have no effect.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.Set("kind", domain.KindOf(err).String())
		if code := domain.CodeOf(err); code != "" {
			s.Set("code", string(code))
		}
		s.span.SetStatus(codes.Error, domain.Reason(err))
	}
	s.span.End()
}

// Connect returns r as part of a new trace, whose first span "connect" is over: the request has come.
// A traceparent of the client is ignored, as any client can send one.
func (t *Tracer) Connect(r *http.Request, proto string) *http.Request {
	if t == nil {
		return r
	}
	ctx, span := t.Start(r.Context(), "connect")
	span.Set("proto", proto)
	span.Set("remote", r.RemoteAddr)
	span.End(nil)
	return r.WithContext(ctx)
}

var errLeft = domain.Errorf(domain.NotFound, "the viewer left before the first media")

// FirstFrame starts a span "first_frame" of a viewer that joins name, and returns the function that
// ends it, for stream.ViewerOptions; nil if the trace is not sampled.
func (t *Tracer) FirstFrame(ctx context.Context, name domain.Name, proto string) func(sent bool) {
	if t == nil {
		return nil
	}
	return t.firstFrame(ctx, name, proto)
}

// firstFrame has the stack of a trace, which FirstFrame needs only with one.
func (t *Tracer) firstFrame(ctx context.Context, name domain.Name, proto string) func(sent bool) {
	_, span := t.Start(ctx, "first_frame")
	if !span.span.IsRecording() {
		return nil
	}
	span.SetStream(name)
	span.Set("proto", proto)
	return func(sent bool) {
		if sent {
			span.End(nil)
		} else {
			span.End(errLeft)
		}
	}
}

// Inject adds the header traceparent (W3C Trace Context) to h, if ctx is part of a trace.
func Inject(ctx context.Context, h http.Header) {
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
}

// Authorizer returns a, with a span "authorize" for each request.
func (t *Tracer) Authorizer(a domain.Authorizer) domain.Authorizer {
	if t == nil {
		return a
	}
	return authorizer{a, t}
}

type authorizer struct {
	domain.Authorizer
	t *Tracer
}

// Authorize implements domain.Authorizer. The span has no name that the client sent: a publisher's is
// its key.
func (a authorizer) Authorize(ctx context.Context, r domain.AuthRequest) (domain.Grant, error) {
	ctx, span := a.t.Start(ctx, "authorize")
	span.Set("action", r.Action.String())
	span.Set("proto", r.Proto)
	grant, err := a.Authorizer.Authorize(ctx, r)
	if err == nil {
		span.SetStream(grant.Name)
	}
	span.End(err)
	return grant, err
}
