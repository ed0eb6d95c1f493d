package observe_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"mpr/company"
	"mpr/observe"
)

// What a gateway tells are the calls of the last seconds, and nothing of whom they were for.
func TestRecent(t *testing.T) {
	p := newProcess(t, observe.AccessLog{})
	api, legacy := p.Door("gateway", "production", "api"), p.Door("gateway", "production", "legacy")
	recent := observe.NewRecent(api, legacy)
	start := time.Now()
	now := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	call := func(d *observe.Door, region company.Region, status, n int) {
		for range n {
			d.Begin()
			d.Done(&observe.Call{Began: time.Now().Add(-30 * time.Millisecond), Status: status, Region: region, Company: 4711, ClientID: "app"})
		}
	}
	call(api, "US01", 200, 3)
	if f := recent.Tick(now(0)); f.Seconds != 0 || f.Regions["US01"].Calls != 0 {
		t.Errorf("at first there is nothing to compare with: %+v", f)
	}
	for second := 1; second <= 20; second++ {
		call(api, "US01", 200, 2)
		call(legacy, "US01", 502, 1)
		if second == 20 {
			call(api, "EU01", 200, 4)
			call(api, "", 401, 1)
		}
		recent.Tick(now(second))
	}
	f := recent.Tick(now(21))
	us, eu := f.Regions["US01"], f.Regions["EU01"]
	if f.Seconds != 10 || us.Calls != 27 || us.Errors != 9 || eu.Calls != 4 || eu.Errors != 0 || f.Regions[""].Calls != 1 {
		t.Errorf("%v s, %+v, %+v, %+v", f.Seconds, us, eu, f.Regions[""])
	}
	if us.Course[observe.CourseSteps-2] != 6 || us.Course[observe.CourseSteps-1] != 3 || us.Course[0] != 0 || eu.Course[observe.CourseSteps-1] != 4 {
		t.Errorf("courses %v, %v", us.Course, eu.Course)
	}
	if p50 := us.Quantile(.5); p50 < 25*time.Millisecond || p50 > 250*time.Millisecond {
		t.Errorf("half of the calls took up to %v", p50)
	}
	// Two gateways together, one of which is of another version.
	var sum observe.Figures
	sum.Add(&f)
	sum.Add(&observe.Figures{Seconds: 10, Regions: map[company.Region]*observe.RegionFigures{"US01": {Calls: 3, Times: []int64{3}}, "AP01": nil}})
	if got := sum.Regions["US01"]; got.Calls != 30 || len(got.Times) != len(observe.Bounds)+1 || len(got.Course) != observe.CourseSteps || us.Calls != 27 {
		t.Errorf("together %+v", got)
	}
	if text, err := json.Marshal(f); err != nil || len(text) > 2000 {
		t.Errorf("%d bytes, %v: %s", len(text), err, text)
	}
}

func TestQuantile(t *testing.T) {
	times := make([]int64, len(observe.Bounds)+1)
	r := observe.RegionFigures{Times: times}
	if r.Quantile(.99) != 0 {
		t.Error("of no calls")
	}
	times[3] = 100 // from 5 to 10 ms
	if got := r.Quantile(.5).Seconds(); math.Abs(got-.0075) > 1e-9 {
		t.Errorf("%v", got)
	}
	times[len(times)-1] = 100
	if got := r.Quantile(.99); got != time.Minute {
		t.Errorf("%v", got)
	}
}

// What a gateway tells may come from another version, or be damaged.
func FuzzFigures(f *testing.F) {
	f.Add([]byte(`{"regions":{"US01":{"calls":3,"errors":1,"times":[1,2],"course":[1]},"EU01":null},"seconds":10}`))
	f.Add([]byte(`{"regions":{"US01":{"calls":-3,"times":[-1,9223372036854775807,1]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var said, sum observe.Figures
		if json.Unmarshal(data, &said) != nil {
			return
		}
		sum.Add(&said)
		sum.Add(&said)
		for _, r := range sum.Regions {
			if len(r.Times) != len(observe.Bounds)+1 || len(r.Course) != observe.CourseSteps {
				t.Errorf("%+v", r)
			}
			r.Quantile(.99)
		}
	})
}
