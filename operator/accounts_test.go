package operator

import (
	"errors"
	"sync"
	"testing"

	"mpr/problem"
)

func TestDisabledOperators(t *testing.T) {
	w := newWorld(t)
	for u, role := range map[User]Role{alice: Admin, bob: Viewer} {
		_, err := w.Grant(t.Context(), nil, u, role, "the test")
		must(t, err)
	}
	stranger := User{ID: 9, Login: "stranger@example.com", Name: "Stranger"}

	// Those who have a role are for admins alone, also under another id.
	for _, u := range []User{alice, bob, {ID: 9, Login: bob.Login}, {ID: bob.ID, Login: "x@example.com"}} {
		_, err := w.Disable(t.Context(), u, Operator)
		refused(t, err, problem.Forbidden)
		refused(t, w.MayTouch(t.Context(), u, Operator), problem.Forbidden)
		must(t, w.MayTouch(t.Context(), u, Admin))
	}
	must(t, w.MayTouch(t.Context(), stranger, Operator))

	secret, theirs := w.begin(bob, Browser), w.begin(alice, Browser)
	verifier := NewSecret()
	code, err := w.IssueCode(t.Context(), bob, Challenge(verifier))
	must(t, err)
	if n, err := w.Disable(t.Context(), bob, Admin); err != nil || n != 1 {
		t.Errorf("%d sessions, %v", n, err)
	}
	w.want(secret, "")
	w.want(theirs, Admin)
	_, err = w.RedeemCode(t.Context(), code, verifier)
	refused(t, err, problem.InvalidGrant)
	list, err := w.Grants(t.Context())
	if must(t, err); len(list) != 2 || list[0].Disabled || !list[1].Disabled {
		t.Errorf("%+v", list)
	}
	if n, err := w.Disable(t.Context(), bob, Admin); err != nil || n != 0 {
		t.Errorf("again: %d sessions, %v", n, err)
	}
	must(t, w.Enable(t.Context(), bob))
	if list, err = w.Grants(t.Context()); err != nil || list[1].Disabled {
		t.Errorf("%+v, %v", list, err)
	}

	// Whoever signs in, without a role, ends like everybody.
	secret = w.begin(stranger, Browser)
	if n, err := w.Disable(t.Context(), stranger, Operator); err != nil || n != 1 {
		t.Errorf("%d sessions, %v", n, err)
	}
	w.want(secret, "")
	w.want(w.begin(bob, Browser), Viewer)
	if n, err := w.EndAll(t.Context(), bob); err != nil || n != 1 {
		t.Errorf("%d sessions, %v", n, err)
	}
}

// One admin who can sign in stays, though two disable one another at once.
func TestTheLastAdminCannotBeDisabled(t *testing.T) {
	w := newWorld(t)
	for _, u := range []User{alice, bob} {
		_, err := w.Grant(t.Context(), nil, u, Admin, "the test")
		must(t, err)
	}
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, u := range []User{alice, bob} {
		both.Go(func() { _, errs[i] = w.Disable(t.Context(), u, Admin) })
	}
	both.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("%v, %v: one of the two stays", errs[0], errs[1])
	}
	refused(t, errors.Join(errs...), problem.Conflict)
	gone, stays := alice, bob
	if errs[1] == nil {
		gone, stays = bob, alice
	}
	// It may be repeated for who is disabled, and the other one can't have the role taken by others.
	_, err := w.Disable(t.Context(), gone, Admin)
	must(t, err)
	if has, err := w.HasAdmin(t.Context()); err != nil || !has {
		t.Errorf("%v, %v", has, err)
	}
	must(t, w.Enable(t.Context(), gone))
	_, err = w.Disable(t.Context(), stays, Admin)
	must(t, err)
}
