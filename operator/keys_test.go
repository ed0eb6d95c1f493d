package operator

import (
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"mpr/problem"
	"mpr/store"
)

// A key stands for one content: until nothing comes of it, or for good.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	claim := func(environment, kind, key, content string) *Claim {
		t.Helper()
		c, err := w.Claim(t.Context(), environment, kind, key, content)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	refused := func(key, content string) {
		t.Helper()
		if _, err := w.Claim(t.Context(), "production", "app", key, content); !errors.Is(err, problem.New(problem.KeyReused, "")) {
			t.Errorf("the key with other content: %v", err)
		}
	}
	first := claim("production", "app", "k", "one")
	if !first.First || first.Made != "" {
		t.Errorf("%+v", first)
	}
	refused("k", "two")
	if again := claim("production", "app", "k", "one"); again.First || again.Made != "" {
		t.Errorf("cut off: %+v", again)
	}
	for _, other := range []*Claim{claim("sandbox", "app", "k", "two"), claim("production", "company", "k", "two"), claim("production", "app", "l", "two")} {
		if !other.First {
			t.Errorf("it isn't another key: %+v", other)
		}
	}
	// What was wrong is corrected, with the same key.
	if err := first.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := claim("production", "app", "k", "two")
	if !second.First {
		t.Errorf("%+v", second)
	}
	if err := first.Drop(t.Context()); err != nil { // a late one, of what the key isn't for any more
		t.Fatal(err)
	}
	if err := second.Keep(t.Context(), "app-1"); err != nil {
		t.Fatal(err)
	}
	if err := second.Drop(t.Context()); err != nil { // what was made stays made
		t.Fatal(err)
	}
	refused("k", "one")
	if again := claim("production", "app", "k", "two"); again.First || again.Made != "app-1" {
		t.Errorf("%+v", again)
	}
	// With another write to the store: both, or neither.
	third := claim("production", "app", "m", "three")
	if err := w.AddOwner(third.With(t.Context(), "app-2"), nil, "app-2", alice, "the test"); err != nil {
		t.Fatal(err)
	}
	if again := claim("production", "app", "m", "three"); again.Made != "app-2" {
		t.Errorf("%+v", again)
	}
	var none *Claim
	if err := errors.Join(none.Keep(t.Context(), "x"), none.Drop(t.Context())); err != nil || none.With(t.Context(), "x") != t.Context() {
		t.Error("a request without a key has something to keep")
	}
}

// Keys are forgotten a day after their first use, however many they are, and whatever has come of them.
func TestKeysAreForgotten(t *testing.T) {
	w := newWorld(t)
	claim := func(key string) *Claim {
		t.Helper()
		c, err := w.Claim(t.Context(), "production", "app", key, "one")
		must(t, err)
		return c
	}
	kept := sweepAtOnce + 7
	must(t, w.DB.Write(t.Context(), func(tx *sql.Tx) error {
		for i := range kept {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO operator_keys (environment, kind, key, request, made, claims, used) VALUES ('production', 'company', $1, 'x', '1', 1, $2)`,
				fmt.Sprint(i), store.Micros(w.Now())); err != nil {
				return err
			}
		}
		return nil
	}))
	made := claim("made")
	must(t, made.Keep(t.Context(), "app-1"))
	w.advance(keysKept)
	claim("later")
	if again := claim("made"); again.First || again.Made != "app-1" { // which is no first use
		t.Errorf("within a day: %+v", again)
	}
	must(t, w.Sweep(t.Context()))
	w.counts(map[string]int{"operator_keys": kept + 2})
	w.advance(time.Second)
	must(t, w.Sweep(t.Context()))
	w.counts(map[string]int{"operator_keys": 1})
	if again := claim("made"); !again.First || again.Made != "" {
		t.Errorf("after a day: %+v", again)
	}
	if again := claim("later"); again.First {
		t.Errorf("another one within a day: %+v", again)
	}
}

// Requests with one key at once, of which some give it up: each has a claim or is refused, and fails by
// nothing else.
func TestKeysAtOnce(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 50 {
				c, err := w.Claim(t.Context(), "production", "app", "k", i%2)
				if errors.Is(err, problem.New(problem.KeyReused, "")) {
					continue
				}
				if err == nil {
					err = c.Drop(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
