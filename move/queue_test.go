package move

import (
	"testing"
	"time"

	"mpr/company"
	"mpr/store"
	"mpr/test/engine"
)

// A region takes part in so many moves at the same time, however fast they are taken up. Those
// that only wait, for their time or for an operator, leave their place to others.
func TestRegionsHaveALimit(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, engine.Store(t), Migrations())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	q := &Queue{DB: db, Now: time.Now}
	for id := range company.ID(9) {
		if _, err := q.Add(ctx, "production", "US02", Request{Company: id + 1, To: "EU01", By: "the test"}); err != nil {
			t.Fatal(err)
		}
	}
	take := func(want int) (taken []*Move) {
		t.Helper()
		for {
			m, err := q.claim(ctx, time.Minute, 4, nil)
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				break
			}
			taken = append(taken, m)
		}
		if len(taken) != want {
			t.Fatalf("%d moves are taken up, expected %d", len(taken), want)
		}
		return taken
	}
	first := take(4)
	for _, m := range first {
		m.Phase = Copying
		if err := q.save(ctx, m, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	take(0)
	first[0].Phase, first[0].wake = Ready, time.Now().Add(time.Second)
	if err := q.save(ctx, first[0], 0); err != nil {
		t.Fatal(err)
	}
	if err := q.Pause(ctx, first[1], true, "the test"); err != nil {
		t.Fatal(err)
	}
	take(2)
}
