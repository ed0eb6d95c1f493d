package observe

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mpr/company"
	"mpr/problem"
)

// Call is one call that was answered.
type Call struct {
	Began  time.Time
	Method string
	// Path is without its query, which may hold secrets.
	Path      string
	RequestID string
	Remote    string // the client's address, without its port
	Status    int
	// ClientID names the app, Company the company, and Region where the call went; empty or 0
	// where they aren't known.
	ClientID string
	Company  company.ID
	Region   company.Region
	// Reason is the code of a refusal of ours.
	Reason problem.Code
	// Upgraded says that the connection became a tunnel: it took as long as people liked.
	Upgraded bool
}

// Door is where calls of one kind come in.
type Door struct {
	process                 *Process
	role, environment, door string
	// region is where all calls of this door go; empty where that depends on the call.
	region company.Region
	// inside says that only our own processes call: what they say of a trace is believed.
	inside bool
	flying prometheus.Gauge

	mu    sync.RWMutex // guards the rest: series that have been used
	count map[series]prometheus.Counter
	time  map[company.Region]prometheus.Observer
}

type series struct {
	region company.Region
	status int
	reason problem.Code
}

// Door makes a door of a role that clients call. Where a call goes depends on the call.
func (p *Process) Door(role, environment, door string) *Door {
	return p.door(role, environment, door, "", false)
}

// Inside makes a door of a role that only our own processes call. region is where all its calls
// go; empty for none.
func (p *Process) Inside(role, environment, door string, region company.Region) *Door {
	return p.door(role, environment, door, region, true)
}

func (p *Process) door(role, environment, door string, region company.Region, inside bool) *Door {
	return &Door{
		process: p, role: role, environment: environment, door: door, region: region, inside: inside,
		flying: p.flying.WithLabelValues(role, environment, door),
		count:  map[series]prometheus.Counter{}, time: map[company.Region]prometheus.Observer{},
	}
}

// Begin says that a call has come in. [Door.Done] must follow. A nil door sees nothing.
func (d *Door) Begin() {
	if d != nil {
		d.flying.Inc()
	}
}

// Done says that the call has been answered. It allocates nothing where it isn't logged and
// its like has been counted before.
func (d *Door) Done(c *Call) {
	if d == nil {
		return
	}
	took := time.Since(c.Began)
	d.flying.Dec()
	if d.region != "" {
		c.Region = d.region
	}
	d.counter(series{c.Region, c.Status, c.Reason}).Inc()
	if !c.Upgraded {
		d.timer(c.Region).Observe(took.Seconds())
	}
	if d.process.access.wants(c) {
		d.process.access.log(d, c, took)
	}
}

func (d *Door) counter(s series) prometheus.Counter {
	d.mu.RLock()
	known, ok := d.count[s]
	d.mu.RUnlock()
	if ok {
		return known
	}
	status := statusText(s.status)
	made := d.process.answers.WithLabelValues(d.role, d.environment, d.door, string(s.region), status, string(s.reason))
	d.mu.Lock()
	if status != "other" {
		d.count[s] = made
	}
	d.mu.Unlock()
	return made
}

func (d *Door) timer(region company.Region) prometheus.Observer {
	d.mu.RLock()
	known, ok := d.time[region]
	d.mu.RUnlock()
	if ok {
		return known
	}
	made := d.process.times.WithLabelValues(d.role, d.environment, d.door, string(region))
	d.mu.Lock()
	d.time[region] = made
	d.mu.Unlock()
	return made
}

// key is that of the call of a request in its context.
type key struct{}

// Of is the call of a request that came through [Door.Handler], for whoever learns more of it;
// a call that nobody looks at where it came another way.
func Of(ctx context.Context) *Call {
	if c, ok := ctx.Value(key{}).(*Call); ok {
		return c
	}
	return &Call{}
}

// Handler observes the calls that next answers. Refusals that package problem writes are known
// by their code.
func (d *Door) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &Call{Began: time.Now(), Method: r.Method, Path: r.URL.Path, RequestID: r.Header.Get(problem.RequestIDHeader), Remote: Address(r.RemoteAddr)}
		d.Begin()
		defer d.Done(c)
		ctx, end := d.Span(r.Context(), r)
		defer end(c)
		next.ServeHTTP(&writer{w, c}, r.WithContext(context.WithValue(ctx, key{}, c)))
	})
}

// Address is a client's address without its port.
func Address(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}

// writer notes the status of an answer, and the code of a refusal.
type writer struct {
	http.ResponseWriter
	call *Call
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	if w.call.Status < 200 { // informational answers may come before
		w.call.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.call.Status < 200 {
		w.call.Status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Flush is for handlers that ask for an [http.Flusher].
func (w *writer) Flush() {
	_ = http.NewResponseController(w.ResponseWriter).Flush() // a client that has gone misses nothing
}

// Refused is what package problem tells of an answer that it writes.
func (w *writer) Refused(code problem.Code) { w.call.Reason = code }
