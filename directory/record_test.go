package directory

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mpr/problem"
)

// Of those who replace what they have read, one does.
func TestARecordIsReplacedOnce(t *testing.T) {
	_, nc := start(t, t.TempDir())
	open := func() *Record {
		r, err := OpenRecord(t.Context(), nc, "records", "one", 1)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for round := range 3 {
		r := open()
		_, revision, err := r.Read(t.Context())
		if err != nil || (revision == 0) != (round == 0) {
			t.Fatalf("round %d: revision %d, %v", round, revision, err)
		}
		var won atomic.Int64
		var trying sync.WaitGroup
		for range 8 {
			r := open()
			trying.Go(func() {
				switch err := r.Replace(t.Context(), []byte("x"), revision); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, problem.New(problem.Conflict, "")):
					t.Error(err)
				}
			})
		}
		trying.Wait()
		if won.Load() != 1 {
			t.Errorf("round %d: %d have won", round, won.Load())
		}
	}
}

func TestForget(t *testing.T) {
	_, nc := start(t, t.TempDir())
	for _, environment := range []string{"box", "box generation 1", "box generation 2"} {
		d, err := Open(t.Context(), nc, environment, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Create(t.Context(), place(7, "US01", 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Forget(t.Context(), nc, func(name string) bool { return strings.HasSuffix(name, "generation-1") }); err != nil {
		t.Fatal(err)
	}
	for environment, there := range map[string]bool{"box": true, "box generation 1": false, "box generation 2": true} {
		d, err := Open(t.Context(), nc, environment, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Get(t.Context(), 7); (err == nil) != there {
			t.Errorf("%s: %v", environment, err)
		}
	}
}
