package app

import (
	"fmt"
	"log/slog"

	"livego/internal/ops/config"
	"livego/internal/ops/tracing"
)

// newTracer returns the tracer of cfg, nil if traces are off.
func newTracer(cfg config.Config, log *slog.Logger) (*tracing.Tracer, error) {
	if cfg.OTLPEndpoint == "" {
		return nil, nil
	}
	headers, err := config.ParseHeaders(cfg.OTLPHeaders)
	if err != nil {
		return nil, fmt.Errorf("otlp_headers: %w", err)
	}
	return tracing.New(tracing.Options{Endpoint: cfg.OTLPEndpoint, Headers: headers, Sample: cfg.OTLPSample,
		Version: Version(), Log: log})
}
