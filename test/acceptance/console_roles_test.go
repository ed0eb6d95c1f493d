package acceptance

import (
	"fmt"
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

// The app by which people sign in here is nobody's: where its users are sent back to, their codes go.
func TestOwnAppStays(t *testing.T) {
	d := startDev(t, t.TempDir())
	v := d.visitor(t, d.Users[0]) // registers it
	var own object
	d.admin(t, "GET", "/apps/mpr-control", nil).want(t, 200).into(t, &own)
	const at = "/console/production/apps/mpr-control"
	for _, name := range []string{"mpr-control", fmt.Sprint(own.ID)} {
		d.admin(t, "PUT", "/apps/"+name+"/redirect-uris", map[string]any{"redirect_uris": []string{"https://elsewhere.example/"}}).wantCode(t, 409, "conflict")
		d.admin(t, "PUT", "/apps/"+name+"/owners/"+d.Users[1].Login, nil).wantCode(t, 409, "conflict")
	}
	refused := v.send(t, v.form(t, at+"/settings", "/redirects"), "redirect_uris", "https://elsewhere.example/").want(t, 409)
	wantText(t, refused, "by which people sign in here")
	d.visitor(t, d.Users[1])
}
