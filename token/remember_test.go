package token

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"mpr/problem"
)

func (v *Verifier) remembers() (held int) {
	for i := range v.shards {
		held += len(v.shards[i].young) + len(v.shards[i].old)
	}
	return held
}

// More tokens are in use than may be remembered, and all of them keep being used.
func TestRememberingIsBoundedWhereEveryTokenIsInUse(t *testing.T) {
	w := newWorld(t, "EdDSA")
	const limit = 16
	v := NewVerifier(issuer, w.follower, limit, w.clock.now)
	raws := make([]string, 4*limit)
	for i := range raws {
		c := w.claims()
		c.ID = fmt.Sprint(i)
		raws[i] = w.sign(t, c)
		for _, raw := range raws[:i+1] {
			if _, err := v.Verify(raw); err != nil {
				t.Fatal(err)
			}
		}
		if held := v.remembers(); held > limit {
			t.Fatalf("%d tokens are remembered, the limit is %d", held, limit)
		}
	}
}

func TestNothingIsRememberedWhereNothingMayBe(t *testing.T) {
	w := newWorld(t, "EdDSA")
	v := NewVerifier(issuer, w.follower, 0, w.clock.now)
	if _, err := v.Verify(w.sign(t, w.claims())); err != nil {
		t.Fatal(err)
	}
	if held := v.remembers(); held != 0 {
		t.Errorf("%d tokens are remembered", held)
	}
}

func TestExpiredTokensArentRemembered(t *testing.T) {
	w := newWorld(t, "EdDSA")
	c := w.claims()
	c.IssuedAt, c.Expires = c.IssuedAt.Add(-2*time.Hour), c.IssuedAt.Add(-time.Hour)
	if _, err := w.verifier.Verify(w.sign(t, c)); !errors.Is(err, errExpired) || !errors.Is(err, problem.New(problem.InvalidToken, "")) {
		t.Errorf("Verify: %v", err)
	}
	if held := w.verifier.remembers(); held != 0 {
		t.Errorf("%d tokens are remembered", held)
	}
}
