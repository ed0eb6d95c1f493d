package observe

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracing says where spans go.
type Tracing struct {
	// Endpoint is the base URL of an OpenTelemetry collector (OTLP over HTTP), such as
	// http://127.0.0.1:4318; "" for no traces.
	Endpoint string
	// Share of the calls that are traced, from 0 to 1. It is decided where a call comes in; what
	// stands behind follows.
	Share float64
}

// lastSpans is how long a stop waits for spans to be sent.
const lastSpans = 2 * time.Second

var contexts = propagation.TraceContext{}

// StartTracing begins to trace. Until then, and where there is no endpoint, nothing is traced
// and nothing is spent on it. It makes the provider that libraries find, which is the
// process's own: two processes in one program would share it.
func (p *Process) StartTracing(ctx context.Context, t Tracing) error {
	if t.Endpoint == "" {
		return nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimRight(t.Endpoint, "/")+"/v1/traces"))
	if err != nil {
		return fmt.Errorf("start tracing: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), // bounded; what doesn't fit is dropped
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(t.Share))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "mpr-"+p.role))))
	otel.SetTracerProvider(provider)
	p.tracer, p.stopTracing = provider.Tracer("mpr"), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
		defer cancel()
		return provider.Shutdown(ctx)
	}
	return nil
}

func (p *Process) tracing() bool { return p.tracer != nil }

// Span begins the span of a call; end ends it. The context carries it to what the call does.
// Where nothing is traced it answers the context, and an end that does nothing.
//
// A call from outside begins a trace of its own, whatever its header says: else anybody could
// have all of their calls traced.
func (d *Door) Span(ctx context.Context, r *http.Request) (_ context.Context, end func(*Call)) {
	if d == nil || !d.process.tracing() {
		return ctx, func(*Call) {}
	}
	if d.inside {
		ctx = contexts.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	ctx, span := d.process.tracer.Start(ctx, d.role+" "+r.Method, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(c *Call) { endSpan(span, d, c) }
}

func endSpan(span trace.Span, d *Door, c *Call) {
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("mpr.environment", d.environment), attribute.String("mpr.door", d.door), attribute.String("mpr.request_id", c.RequestID),
			attribute.String("http.request.method", c.Method), attribute.String("url.path", c.Path), attribute.Int("http.response.status_code", c.Status))
		for name, value := range map[string]string{"mpr.app": c.ClientID, "mpr.region": string(c.Region), "mpr.reason": string(c.Reason)} {
			if value != "" {
				span.SetAttributes(attribute.String(name, value))
			}
		}
		if c.Company != 0 {
			span.SetAttributes(attribute.Int64("mpr.company", int64(c.Company)))
		}
		if c.Status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, string(c.Reason))
		}
	}
	span.End()
}

// Traces says whether calls are traced, so that [Door.Inject] does something.
func (d *Door) Traces() bool { return d != nil && d.process.tracing() }

// Inject puts the span of the context into the header of a request to one of our own processes,
// and takes away what a client had there. Where nothing is traced the client's stays: it means
// something to services behind us.
func (d *Door) Inject(ctx context.Context, h http.Header) {
	if d != nil && d.process.tracing() {
		contexts.Inject(ctx, propagation.HeaderCarrier(h))
	}
}
