package directory

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
	"mpr/problem"
)

func region(code company.Region, number int) company.RegionInfo {
	return company.RegionInfo{Code: code, Number: number, Upstreams: []string{"http://127.0.0.1:1"}}
}

// oneNumberOneCode lets many control processes give one number to as many codes, and wants
// one of them to win.
func oneNumberOneCode(t *testing.T, d *Directory) {
	t.Helper()
	if won := race(t, func(code company.Region) error { return d.PutRegion(t.Context(), region(code, 20)) }); won != 1 {
		t.Errorf("%d codes got one number", won)
	}
	list, err := d.Regions(t.Context())
	if err != nil || len(slices.DeleteFunc(list, func(r company.RegionInfo) bool { return r.Number != 20 })) != 1 {
		t.Errorf("regions: %v, %v", list, err)
	}
}

func TestARegionKeepsItsNumber(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	if list, err := d.Regions(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("at first: %v, %v", list, err)
	}
	for _, r := range []company.RegionInfo{region("EU01", 17), region("US01", 0), region("EU01", 17)} {
		if err := d.PutRegion(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []company.RegionInfo{region("EU01", 18), region("EU02", 17), region("US02", 0)} {
		if err := d.PutRegion(t.Context(), r); !errors.Is(err, problem.New(problem.Conflict, "")) {
			t.Errorf("%s got number %d: %v", r.Code, r.Number, err)
		}
	}
	list, err := d.Regions(t.Context())
	if err != nil || len(list) != 2 || list[0].Code != "US01" || list[1].Code != "EU01" {
		t.Errorf("regions: %v, %v", list, err)
	}
	oneNumberOneCode(t, d)
}

// A region that is drained stays so, whatever a start of a process says of its addresses, until
// somebody opens it.
func TestARegionIsDrained(t *testing.T) {
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	if _, err := d.DrainRegion(t.Context(), "EU01", true); !errors.Is(err, problem.New(problem.NotFound, "")) {
		t.Errorf("a region that isn't there: %v", err)
	}
	put := region("EU01", 17)
	for _, draining := range []bool{true, true, false, false} {
		if err := d.PutRegion(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		r, err := d.DrainRegion(t.Context(), "EU01", draining)
		if err != nil || r.Draining != draining || r.Number != 17 {
			t.Errorf("%+v, %v", r, err)
		}
		put.Upstreams = []string{"http://127.0.0.1:2"}
		if err := d.PutRegion(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		if list, err := d.Regions(t.Context()); err != nil || len(list) != 1 || list[0].Draining != draining || list[0].Upstreams[0] != put.Upstreams[0] {
			t.Errorf("%+v, %v", list, err)
		}
	}
}

// A process that stops doesn't wait for messages that may never come.
func TestWaitingForMessagesEndsWithItsContext(t *testing.T) {
	_, nc := start(t, t.TempDir())
	s, err := OpenStream(t.Context(), nc, "changes", "production", 1)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := s.js.CreateOrUpdateConsumer(t.Context(), s.name, jetstream.ConsumerConfig{Durable: "index", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	messages, err := s.first(ended, consumer)
	if took := time.Since(began); len(messages) != 0 || !errors.Is(err, context.Canceled) || took >= writeTimeout {
		t.Errorf("it took %s: %d messages, %v", took, len(messages), err)
	}
}
