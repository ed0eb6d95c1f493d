package observe

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Replica is how a copy of the directory stands.
type Replica struct {
	// Age is how long ago it was last in step with the directory.
	Age       time.Duration
	Companies int
}

var (
	replicaAge = prometheus.NewDesc("mpr_replica_age_seconds", "How long ago the copy of the directory was last in step with it.", []string{"environment"}, nil)
	replicaLen = prometheus.NewDesc("mpr_replica_companies", "Companies in the copy of the directory.", []string{"environment"}, nil)
)

// Replica tells how an environment's copy of the directory stands: the one that is asked for calls.
func (p *Process) Replica(environment string, read func() Replica) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replicas[environment] = read
}

type replicaCollector struct{ process *Process }

func (c replicaCollector) Describe(to chan<- *prometheus.Desc) {
	to <- replicaAge
	to <- replicaLen
}

func (c replicaCollector) Collect(to chan<- prometheus.Metric) {
	c.process.mu.Lock()
	all := maps.Clone(c.process.replicas)
	c.process.mu.Unlock()
	for environment, read := range all {
		now := read()
		to <- prometheus.MustNewConstMetric(replicaAge, prometheus.GaugeValue, now.Age.Seconds(), environment)
		to <- prometheus.MustNewConstMetric(replicaLen, prometheus.GaugeValue, float64(now.Companies), environment)
	}
}

// Database shows the pools of a database, until remove is called. Names of pools that are shown
// already are left out: two environments may share a database.
func (p *Process) Database(name string, pools map[string]*sql.DB) (remove func()) {
	var shown []prometheus.Collector
	for pool, db := range pools {
		c := collectors.NewDBStatsCollector(db, fmt.Sprintf("%s (%s)", name, pool))
		if err := p.registry.Register(c); err != nil {
			slog.Debug("a database is shown already", "name", name, "error", err)
			continue
		}
		shown = append(shown, c)
	}
	return func() {
		for _, c := range shown {
			p.registry.Unregister(c)
		}
	}
}

// Sample is one value of a [Table].
type Sample struct {
	// Labels are in the order of the table's.
	Labels []string
	Value  float64
}

// Table is figures that are read, often from a store, when somebody asks.
type Table struct {
	Name, Help string
	Labels     []string
	// Grows says that values only grow, but for a new start.
	Grows bool
	// Read is given two seconds. Where it fails the table is left out, and a counter of failures
	// grows.
	Read func(context.Context) ([]Sample, error)
}

// Tables shows tables.
func (p *Process) Tables(all ...Table) {
	for _, t := range all {
		p.registry.MustRegister(tableCollector{t, prometheus.NewDesc(t.Name, t.Help, t.Labels, nil), p.failed.WithLabelValues(t.Name)})
	}
}

type tableCollector struct {
	table  Table
	desc   *prometheus.Desc
	failed prometheus.Counter
}

func (c tableCollector) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

func (c tableCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	samples, err := c.table.Read(ctx)
	if err != nil {
		c.failed.Inc()
		slog.Warn("figures can't be read", "name", c.table.Name, "error", err)
		return
	}
	kind := prometheus.GaugeValue
	if c.table.Grows {
		kind = prometheus.CounterValue
	}
	for _, s := range samples {
		to <- prometheus.MustNewConstMetric(c.desc, kind, s.Value, s.Labels...)
	}
}

// Distribution is a histogram of durations without labels.
func (p *Process) Distribution(name, help string, buckets []float64) func(time.Duration) {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	p.registry.MustRegister(h)
	return func(d time.Duration) { h.Observe(d.Seconds()) }
}
