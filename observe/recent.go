package observe

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"mpr/company"
)

// Figures are what doors have seen in the last seconds. They add up: those of two processes
// together are those of both.
type Figures struct {
	// Regions are those that calls went to; "" is for calls that went to none.
	Regions map[company.Region]*RegionFigures `json:"regions"`
	// Seconds is how many of them Calls, Errors and Times are of.
	Seconds float64 `json:"seconds"`
}

// RegionFigures are what was seen of a region.
type RegionFigures struct {
	Calls int64 `json:"calls"`
	// Errors are answers with a status from 500 on.
	Errors int64 `json:"errors"`
	// Times counts calls by how long they took: those up to each of [Bounds], and the rest.
	Times []int64 `json:"times"`
	// Course counts the calls of each step of [CourseStep], the oldest first.
	Course []int64 `json:"course"`
}

const (
	// figuresOf is how far figures look back.
	figuresOf = 10 * time.Second
	// CourseStep and CourseSteps are what a course is made of.
	CourseStep  = 2 * time.Second
	CourseSteps = 30
)

// Bounds are those of the times of calls, in seconds.
var Bounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Add adds the figures of another process.
func (f *Figures) Add(o *Figures) {
	if f.Regions == nil {
		f.Regions = map[company.Region]*RegionFigures{}
	}
	f.Seconds = max(f.Seconds, o.Seconds)
	for code, from := range o.Regions {
		if from == nil {
			continue
		}
		to := f.Regions[code]
		if to == nil {
			to = &RegionFigures{}
			f.Regions[code] = to
		}
		to.Add(from)
	}
}

// Add adds the figures of another process, or of another region.
func (r *RegionFigures) Add(o *RegionFigures) {
	r.Calls, r.Errors = r.Calls+o.Calls, r.Errors+o.Errors
	r.Times = plus(r.Times, o.Times, len(Bounds)+1)
	r.Course = plus(r.Course, o.Course, CourseSteps)
}

// plus adds lists of a length; what another process says may be shorter or longer.
func plus(a, b []int64, n int) []int64 {
	sum := slices.Grow(slices.Clone(a[:min(len(a), n)]), n)[:n]
	for i := range min(len(b), n) {
		sum[i] += b[i]
	}
	return sum
}

// Quantile estimates the time within which a share of the calls was answered, 0 where there was
// none: from where the call stands among those of its class, as Prometheus does.
func (r *RegionFigures) Quantile(q float64) time.Duration {
	total := int64(0)
	for _, n := range r.Times {
		total += n
	}
	rank, before := q*float64(total), 0.0
	for i, n := range r.Times {
		if before+float64(n) < rank || n == 0 {
			before += float64(n)
			continue
		}
		if i >= len(Bounds) {
			return seconds(Bounds[len(Bounds)-1])
		}
		low := 0.0
		if i > 0 {
			low = Bounds[i-1]
		}
		return seconds(low + (Bounds[i]-low)*(rank-before)/float64(n))
	}
	return 0
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// Recent remembers what doors have counted, so that it can tell what they have seen in the last
// seconds. One goroutine may use it.
type Recent struct {
	doors []*Door
	past  []counts // the oldest first
}

// counts are what doors have counted up to a time.
type counts struct {
	at      time.Time
	regions map[company.Region]*RegionFigures // no courses
}

// NewRecent makes a memory of these doors.
func NewRecent(doors ...*Door) *Recent { return &Recent{doors: doors} }

// Tick answers the figures, and remembers what they are made of. It is to be called about every
// second; calls at other intervals blur the course.
func (r *Recent) Tick(now time.Time) Figures {
	last := counts{now, map[company.Region]*RegionFigures{}}
	for _, d := range r.doors {
		d.total(last.regions)
	}
	r.past = append(r.past, last)
	for len(r.past) > 1 && now.Sub(r.past[0].at) > CourseStep*CourseSteps {
		r.past = slices.Delete(r.past, 0, 1)
	}
	first := r.before(now.Add(-figuresOf))
	f := Figures{Regions: map[company.Region]*RegionFigures{}, Seconds: now.Sub(first.at).Seconds()}
	for code, n := range last.regions {
		one := &RegionFigures{Calls: n.Calls, Errors: n.Errors, Times: slices.Clone(n.Times), Course: make([]int64, CourseSteps)}
		if old := first.regions[code]; old != nil {
			one.Calls, one.Errors = one.Calls-old.Calls, one.Errors-old.Errors
			for i := range one.Times {
				one.Times[i] -= old.Times[i]
			}
		}
		f.Regions[code] = one
	}
	r.course(now, f)
	return f
}

// before is the newest of what is remembered that isn't newer than a time; the oldest where all is.
func (r *Recent) before(at time.Time) counts {
	for _, c := range slices.Backward(r.past) {
		if !c.at.After(at) {
			return c
		}
	}
	return r.past[0]
}

func (r *Recent) course(now time.Time, f Figures) {
	end := r.before(now)
	for step := CourseSteps - 1; step >= 0; step-- {
		begin := r.before(now.Add(-CourseStep * time.Duration(CourseSteps-step)))
		for code, to := range end.regions {
			n := to.Calls
			if from := begin.regions[code]; from != nil {
				n -= from.Calls
			}
			f.Regions[code].Course[step] = n
		}
		end = begin
	}
}

// total adds what the door has counted.
func (d *Door) total(to map[company.Region]*RegionFigures) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	of := func(code company.Region) *RegionFigures {
		if to[code] == nil {
			to[code] = &RegionFigures{Times: make([]int64, len(Bounds)+1)}
		}
		return to[code]
	}
	for s, counter := range d.count {
		n := int64(reading(counter).GetCounter().GetValue())
		of(s.region).Calls += n
		if s.status >= 500 {
			of(s.region).Errors += n
		}
	}
	for code, timer := range d.time {
		metric, ok := timer.(prometheus.Metric)
		if !ok {
			continue // it always is one
		}
		times, before := of(code).Times, uint64(0)
		histogram := reading(metric).GetHistogram()
		for i, bucket := range histogram.GetBucket() {
			times[min(i, len(Bounds))] += int64(bucket.GetCumulativeCount() - before) //nolint:gosec // a count of calls
			before = bucket.GetCumulativeCount()
		}
		times[len(Bounds)] += int64(histogram.GetSampleCount() - before) //nolint:gosec // a count of calls
	}
}

func reading(m prometheus.Metric) *dto.Metric {
	var out dto.Metric
	_ = m.Write(&out) // what we have made can be written
	return &out
}

// statusText is a status as a label: a service of somebody else may answer anything.
func statusText(status int) string {
	if status >= 100 && status < 600 {
		return strconv.Itoa(status)
	}
	return "other"
}
