package operator

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"mpr/problem"
)

func TestOwners(t *testing.T) {
	w := newWorld(t)
	owned := func(u User, want ...string) {
		t.Helper()
		got, err := w.Owned(t.Context(), u.ID, u.Login)
		if must(t, err); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", u.Login, got, want)
		}
	}
	owned(alice)
	for range 2 { // a second time changes nothing
		must(t, w.AddOwner(t.Context(), nil, "diary", alice, "the test"))
	}
	must(t, w.AddOwner(t.Context(), nil, "sync", alice, "the test"))
	must(t, w.AddOwner(t.Context(), nil, "diary", bob, alice.Login))
	owned(alice, "diary", "sync")
	owned(bob, "diary")
	list, err := w.Owners(t.Context(), "diary")
	if must(t, err); len(list) != 2 || list[0].Login != alice.Login || list[1].By != alice.Login {
		t.Errorf("%+v", list)
	}
	for _, c := range []struct {
		u    User
		app  string
		want bool
	}{{alice, "sync", true}, {bob, "sync", false}, {bob, "diary", true}, {User{ID: bob.ID, Login: alice.Login}, "diary", false}, {bob, "", false}} {
		if got, err := w.Owns(t.Context(), c.u.ID, c.u.Login, c.app); err != nil || got != c.want {
			t.Errorf("%s has %q: %v, %v", c.u.Login, c.app, got, err)
		}
	}
	must(t, w.RemoveOwner(t.Context(), nil, "diary", alice.Login, true))
	refused(t, w.RemoveOwner(t.Context(), nil, "diary", alice.Login, true), problem.NotFound)
	refused(t, w.RemoveOwner(t.Context(), nil, "diary", bob.Login, true), problem.Conflict) // the last one
	owned(bob, "diary")
	must(t, w.RemoveOwner(t.Context(), nil, "diary", bob.Login, false))
	owned(bob)
}

// An identity store that was lost and made anew gives an owner's id, or login, to somebody else.
func TestOwnersNameTheLogin(t *testing.T) {
	w := newWorld(t)
	must(t, w.AddOwner(t.Context(), nil, "diary", alice, "the test"))
	stranger := User{ID: alice.ID, Login: "stranger@example.com"}
	if got, err := w.Owns(t.Context(), stranger.ID, stranger.Login, "diary"); err != nil || got {
		t.Errorf("%v, %v", got, err)
	}
	must(t, w.AddOwner(t.Context(), nil, "diary", stranger, "the test"))
	list, err := w.Owners(t.Context(), "diary")
	if must(t, err); len(list) != 1 || list[0].Login != stranger.Login {
		t.Errorf("%+v", list)
	}
}

func TestOwnersHaveLimits(t *testing.T) {
	w := newWorld(t)
	for i := range maxOwners {
		must(t, w.AddOwner(t.Context(), nil, "shared", User{ID: int64(100 + i), Login: fmt.Sprint(i)}, "the test"))
	}
	refused(t, w.AddOwner(t.Context(), nil, "shared", alice, "the test"), problem.Conflict)
	for i := range maxOwned {
		must(t, w.MayOwnMore(t.Context(), alice.ID))
		must(t, w.AddOwner(t.Context(), nil, fmt.Sprint("app", i), alice, "the test"))
	}
	refused(t, w.MayOwnMore(t.Context(), alice.ID), problem.Conflict)
	refused(t, w.AddOwner(t.Context(), nil, "one more", alice, "the test"), problem.Conflict)
}

// atOnce makes both changes at the same time.
func atOnce(one, other func() error) (errs [2]error) {
	var both sync.WaitGroup
	for i, change := range []func() error{one, other} {
		both.Go(func() { errs[i] = change() })
	}
	both.Wait()
	return errs
}

// Changes that come at the same time know of one another: the last owner stays, limits hold, and the
// same change twice is one change.
func TestOwnersAtOnce(t *testing.T) {
	w := newWorld(t)
	conflict := problem.New(problem.Conflict, "")
	for i := range 40 {
		app := fmt.Sprint("app", i)
		for _, u := range []User{alice, bob} {
			for _, err := range atOnce(func() error { return w.AddOwner(t.Context(), nil, app, u, "the test") }, func() error { return w.AddOwner(t.Context(), nil, app, u, "the test") }) {
				must(t, err)
			}
		}
		errs := atOnce(func() error { return w.RemoveOwner(t.Context(), nil, app, alice.Login, true) }, func() error { return w.RemoveOwner(t.Context(), nil, app, bob.Login, true) })
		left, err := w.Owners(t.Context(), app)
		must(t, err)
		if len(left) != 1 || errors.Is(errs[0], conflict) == errors.Is(errs[1], conflict) {
			t.Fatalf("round %d: %v are left, after %v", i, left, errs)
		}
	}
	for i := range maxOwners - 1 {
		must(t, w.AddOwner(t.Context(), nil, "shared", User{ID: int64(100 + i), Login: fmt.Sprint(i)}, "the test"))
	}
	errs := atOnce(func() error { return w.AddOwner(t.Context(), nil, "shared", alice, "the test") }, func() error { return w.AddOwner(t.Context(), nil, "shared", bob, "the test") })
	if errors.Is(errs[0], conflict) == errors.Is(errs[1], conflict) {
		t.Errorf("two came for one place: %v", errs)
	}
}
