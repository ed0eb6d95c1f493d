package observe

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"

	"mpr/problem"
)

// Options are what a [Process] needs.
type Options struct {
	// Role is what the process is: login, gateway, region-EU01, control, dev.
	Role string
	// Version is the build's.
	Version string
	// Access is the access log; its zero value writes none.
	Access AccessLog
}

// Process is what operators see of a process.
type Process struct {
	role     string
	registry *prometheus.Registry
	answers  *prometheus.CounterVec
	times    *prometheus.HistogramVec
	flying   *prometheus.GaugeVec
	failed   *prometheus.CounterVec
	access   *accessLog
	draining atomic.Bool

	tracer      trace.Tracer // nil: nothing is traced
	stopTracing func() error

	mu       sync.Mutex // guards the rest
	checks   []*Check
	serves   []string // environments
	replicas map[string]func() Replica
}

// New makes a process's part of this package. It starts the writer of the access log, which
// [Process.Close] ends.
func New(o Options) (*Process, error) {
	p := &Process{role: o.Role, registry: prometheus.NewRegistry(), replicas: map[string]func() Replica{}}
	p.answers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mpr_calls_total", Help: "Calls that were answered, by the role and the door that answered, the region that they went to, the status, and the code of a refusal.",
	}, []string{"role", "environment", "door", "region", "status", "reason"})
	p.times = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "mpr_call_seconds", Help: "How long calls took, from the header's arrival to the end of the answer.",
		Buckets: Bounds,
	}, []string{"role", "environment", "door", "region"})
	p.flying = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mpr_calls_in_flight", Help: "Calls that are being answered.",
	}, []string{"role", "environment", "door"})
	p.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mpr_figures_failed_total", Help: "Figures that couldn't be read from their store, by their name.",
	}, []string{"name"})
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mpr_build_info", Help: "1, with which build this is."}, []string{"role", "version"})
	build.WithLabelValues(o.Role, o.Version).Set(1)
	lines := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mpr_access_log_lines_total", Help: "Lines of the access log that were written, and that were lost because it couldn't keep up."}, []string{"fate"})
	var err error
	if p.access, err = openAccessLog(o.Access, lines); err != nil {
		return nil, err
	}
	p.registry.MustRegister(p.answers, p.times, p.flying, p.failed, build, lines, readyCollector{p}, replicaCollector{p},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return p, nil
}

// Close ends the access log and the traces; what was logged is written, and spans are sent for
// two seconds at the most.
func (p *Process) Close() error {
	if p.stopTracing != nil {
		if err := p.stopTracing(); err != nil {
			slog.Warn("the last spans are lost", "error", err)
		}
	}
	return p.access.close()
}

// Drain has the process say that it isn't ready any more: it is about to stop.
func (p *Process) Drain() { p.draining.Store(true) }

// Draining says whether [Process.Drain] was called.
func (p *Process) Draining() bool { return p.draining.Load() }

// The paths of [Process.Handler].
const (
	LivePath    = "/livez"
	ReadyPath   = "/readyz"
	MetricsPath = "/metrics"
)

// Handler answers /livez (200 while the process can answer at all), /readyz (200 or 503, with
// the reasons) and /metrics (Prometheus).
func (p *Process) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+LivePath, p.live)
	mux.HandleFunc("GET "+ReadyPath, p.ready)
	mux.Handle("GET "+MetricsPath, promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, pattern := mux.Handler(r); pattern == "" {
			problem.Write(w, r, problem.Unrouted(w, r, h))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (p *Process) live(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"role": p.role, "live": true})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // whoever has left needs no answer
}
