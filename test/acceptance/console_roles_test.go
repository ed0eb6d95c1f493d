package acceptance

import (
	"strings"
	"testing"
)

// Admins don't lock themselves out by one click, or by a form: another admin has to.
func TestOwnRoleStays(t *testing.T) {
	d := startDev(t, t.TempDir())
	alice, bob := d.Users[0], d.Users[1]
	v := d.visitor(t, alice)
	const at = "/console/production/operators"
	for _, f := range forms(t, v.get(t, at).want(t, 200).Body) {
		if f.fields.Has("revoke") || strings.EqualFold(f.fields.Get("login"), alice.Login) {
			t.Errorf("an admin is offered to revoke their own role: %v", f)
		}
	}
	f := v.form(t, at, "/operators")
	for _, login := range []string{alice.Login, strings.ToUpper(alice.Login)} {
		for _, role := range []string{"viewer", "operator"} {
			wantText(t, v.send(t, f, "login", login, "role", role).want(t, 409), "another admin has to")
		}
	}
	v.send(t, f, "login", alice.Login, "role", "admin").want(t, 303) // which it was
	f.fields.Set("revoke", "1")
	for _, login := range []string{alice.Login, strings.ToUpper(alice.Login)} {
		wantText(t, v.send(t, f, "login", login).want(t, 409), "another admin has to")
	}
	f.fields.Del("revoke")
	v.send(t, f, "login", bob.Login, "role", "admin").want(t, 303)
	other := d.visitor(t, bob)
	f = other.form(t, at, "/operators")
	other.send(t, f, "login", alice.Login, "revoke", "1").want(t, 303)
	if got := v.get(t, at).Status; got == 200 {
		t.Error("the role that another admin has revoked still counts")
	}
}
