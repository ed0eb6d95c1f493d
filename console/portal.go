package console

import (
	"strings"

	"mpr/control"
	"mpr/operator"
	"mpr/problem"
)

// ownApps are the apps of whoever has signed in.
type ownApps struct {
	Apps []control.App
	// Where is the environment in which they are registered.
	Where string
}

var ownAppsPage = page{template: "own-apps", load: func(q *request) (shown, error) {
	list, err := q.client.OwnApps(q.ctx())
	return shown{title: "Your apps", nav: "apps", data: &ownApps{list.Apps, q.at.Name}}, err
}}

// newApp is the form for an app.
type newApp struct {
	Kinds []appKind
	// Key makes sending the form twice safe.
	Key string
}

type appKind struct{ Kind, Name, Hint string }

var appKinds = []appKind{
	{control.KindWeb, "Web app", "Runs on a server of yours, and keeps a secret. People allow it to act for them."},
	{control.KindInstalled, "Installed app", "Runs on desktops or phones, and can keep no secret (PKCE)."},
	{control.KindDeveloperManaged, "Service account", "Speaks for itself, in every company that installs it."},
}

var newAppPage = page{template: "app-new", load: func(q *request) (shown, error) {
	nav := "new"
	if !q.portal {
		if err := q.needs(operator.Operator); err != nil { // what others register is theirs, and in the portal
			return shown{}, err
		}
		nav = "apps"
	}
	return shown{title: "Register an app", nav: nav, data: &newApp{appKinds, q.key()}}, nil
}}

// registerApp registers an app, and shows its credentials, once.
func registerApp(q *request) (string, error) {
	name, kind, key := strings.TrimSpace(q.r.PostFormValue("name")), q.r.PostFormValue("kind"), q.r.PostFormValue("key")
	var app control.App
	var err error
	switch kind {
	case control.KindWeb, control.KindInstalled:
		app, err = q.client.CreateApp(q.ctx(), control.NewApp{Name: name, Kind: kind, RedirectURIs: lines(q.r.PostFormValue("redirect_uris")), IdempotencyKey: key, Own: q.portal})
	case control.KindDeveloperManaged:
		if len(lines(q.r.PostFormValue("redirect_uris"))) > 0 {
			return "", badField("redirect_uris", "must be empty for a service account, which sends nobody anywhere")
		}
		app, err = q.client.CreateServiceAccount(q.ctx(), control.NewServiceAccount{Name: name, Kind: kind, IdempotencyKey: key, Own: q.portal})
	default:
		return "", problem.New(problem.BadRequest, "Choose what kind of app it is.")
	}
	if err != nil {
		return "", q.reused(err)
	}
	return "", q.render(secretPage, shown{title: app.Name + " is registered", nav: "apps", data: &secretView{App: app, Path: q.appPath(app.ClientID), Made: true, Where: q.at.Name}})
}
