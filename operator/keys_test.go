package operator

import (
	"errors"
	"testing"

	"mpr/problem"
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
