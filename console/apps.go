package console

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/control"
	"mpr/ledger"
	"mpr/operator"
	"mpr/problem"
)

// appRow is an app in a list.
type appRow struct {
	ClientID, Name, Kind, State string
	// Report is what the ledger says; nil where nobody asked.
	Report *ledger.AppReport
}

// appList is a page of apps.
type appList struct {
	Tab, Text, State string
	Rows             []appRow
	Days             []string
	Pager            pager
	More             string
	Counted          time.Time
	AllCalls         int64
}

// The tabs of the list of apps.
const (
	tabLedger = "ledger"
	tabAll    = "all"
)

var appsPage = page{template: "apps", load: loadApps}

func loadApps(q *request) (shown, error) {
	query := q.r.URL.Query()
	l := appList{Tab: tabLedger, Text: strings.TrimSpace(query.Get("q")), State: query.Get("state")}
	if query.Get("tab") == tabAll || l.Text != "" {
		l.Tab = tabAll
	}
	number, err := q.pageNumber()
	if err != nil {
		return shown{}, err
	}
	what := shown{title: "Apps", nav: "apps", data: &l}
	switch {
	case l.Text != "":
		return what, l.search(q)
	case l.Tab == tabAll:
		found, err := q.client.Apps(q.ctx(), number, perPage)
		l.add(found.Apps)
		l.Pager = q.pagerOf(number, found.Total)
		return what, err
	}
	report, err := q.client.LedgerPage(q.ctx(), l.State, number, perPage)
	if err != nil {
		return what, err
	}
	l.Days, l.Counted, l.AllCalls = report.Days[:], report.Counted, report.AllCalls
	for i := range report.Apps {
		a := &report.Apps[i]
		l.Rows = append(l.Rows, appRow{ClientID: a.ClientID, Name: report.Names[a.ClientID], State: string(a.State), Report: a})
	}
	l.Pager = q.pagerOf(number, report.Total)
	return what, nil
}

func (l *appList) add(apps []control.App) {
	for _, a := range apps {
		l.Rows = append(l.Rows, appRow{ClientID: a.ClientID, Name: a.Name, Kind: a.Kind, State: a.State})
	}
}

// search lists the apps that a text finds.
func (l *appList) search(q *request) error {
	after, err := strconv.ParseInt(cmp.Or(q.r.URL.Query().Get("after"), "0"), 10, 64)
	if err != nil {
		return problem.New(problem.BadRequest, "The link to this page of apps is wrong.")
	}
	found, err := q.client.SearchApps(q.ctx(), l.Text, after, perPage)
	if errors.Is(err, problem.New(problem.BadRequest, "")) { // nothing in it can be looked for
		return nil
	}
	l.add(found.Apps)
	if found.Next != 0 {
		l.More = link(q.r.URL.Path, "q", l.Text, "after", strconv.FormatInt(found.Next, 10))
	}
	return err
}

// appBase is what all pages of an app have.
type appBase struct {
	App control.App
	// Path is where the app's pages are, and Here which one it is.
	Path, Here string
	// Change says that the visitor may change the app.
	Change bool
}

// app reads the app in the path.
func (q *request) app(here string) (appBase, error) {
	app, err := q.client.App(q.ctx(), q.r.PathValue("app"))
	base := appBase{App: app, Path: q.appPath(app.ClientID), Here: here, Change: q.covers(operator.Operator)}
	if err != nil || base.Change || !q.portal {
		return base, err
	}
	if base.Change = !q.covers(operator.Viewer); base.Change { // a developer is shown no apps but their own
		return base, nil
	}
	list, err := q.client.AppOwners(q.ctx(), app.ClientID)
	base.Change = slices.ContainsFunc(list.Owners, func(o operator.Owner) bool { return o.Login == q.session.Login })
	return base, err
}

// appPath is where the pages of an app are: the operators' or the developers'.
func (q *request) appPath(clientID string) string {
	if q.portal {
		return developersPath + "apps/" + url.PathEscape(clientID)
	}
	return q.at.Path() + "/apps/" + url.PathEscape(clientID)
}

// healthView is how an app stands, and what it must change.
type healthView struct {
	appBase
	Report   ledger.AppReport
	Days     []string
	AllCalls int64
	Lines    control.LedgerLines
	Pager    pager
	Campaign control.AppCampaign
	// CSV is where the calls are as CSV.
	CSV string
}

var healthPage = page{template: "app-health", load: func(q *request) (shown, error) {
	base, err := q.app("health")
	if err != nil {
		return shown{}, err
	}
	v := healthView{appBase: base}
	number, err := q.pageNumber()
	if err != nil {
		return shown{}, err
	}
	report, err := q.client.Compliance(q.ctx(), base.App.ClientID)
	if err != nil {
		return shown{}, err
	}
	if len(report.Apps) > 0 {
		v.Report = report.Apps[0]
	}
	v.Days, v.AllCalls = report.Days[:], report.AllCalls
	if v.Lines, err = q.client.AppCalls(q.ctx(), base.App.ClientID, number, perPage); err != nil {
		return shown{}, err
	}
	v.Pager = q.pagerOf(number, v.Lines.Total)
	if v.Campaign, err = q.client.AppCampaign(q.ctx(), base.App.ClientID); err != nil {
		return shown{}, err
	}
	v.CSV = "/admin/v1/environments/" + url.PathEscape(q.at.Name) + "/apps/" + url.PathEscape(base.App.ClientID) + "/calls.csv?days=14"
	return shown{title: base.App.Name, nav: "apps", data: &v}, nil
}}

func rehearse(q *request) (string, error) {
	app := q.r.PathValue("app")
	if q.r.PostFormValue("end") != "" {
		_, err := q.client.EndRehearsal(q.ctx(), app, "", "")
		return q.appPath(app) + "?done=rehearsed", err
	}
	from, err := q.moment("from")
	if err != nil {
		return "", err
	}
	to, err := q.moment("to")
	if err != nil {
		return "", err
	}
	_, err = q.client.Rehearse(q.ctx(), app, control.NewRehearsal{From: from, To: to, Note: "rehearsal of " + app})
	return q.appPath(app) + "?done=rehearsing", shortFields(err)
}

// settingsView is what can be changed about an app.
type settingsView struct {
	appBase
	Limits control.AppLimits
	Owners []operator.Owner
	// Owned says that apps of this environment belong to users.
	Owned bool
}

var settingsPage = page{template: "app-settings", load: func(q *request) (shown, error) {
	base, err := q.app("settings")
	if err != nil {
		return shown{}, err
	}
	v := settingsView{appBase: base, Owned: q.at.Name == q.service.Operators}
	if v.Limits, err = q.client.AppLimits(q.ctx(), base.App.ClientID); err != nil {
		return shown{}, err
	}
	if v.Owned {
		owners, err := q.client.AppOwners(q.ctx(), base.App.ClientID)
		if err != nil {
			return shown{}, err
		}
		v.Owners = owners.Owners
	}
	return shown{title: base.App.Name, nav: "apps", data: &v}, nil
}}

// secretView shows a secret, once.
type secretView struct {
	App     control.App
	Path    string
	Made    bool
	Overlap time.Duration
	Where   string
}

// defaultOverlap is for how many hours an old secret stays valid where nothing is said.
const defaultOverlap = 24

var secretPage = page{template: "secret"}

// rotateSecret makes a new client secret, of the app or of its part of the development sandbox, and
// shows it.
func rotateSecret(q *request) (string, error) {
	hours, err := q.number("overlap")
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(q.r.PostFormValue("overlap")) == "" { // 0 ends the old secret at once: that is said, and not left out
		hours = defaultOverlap
	}
	if hours < 0 || hours > 30*24 {
		return "", badField("overlap", "must be a number of hours from 0 to 720")
	}
	client, app := q.client, q.r.PathValue("app")
	v := secretView{Path: q.appPath(app), Overlap: time.Duration(hours) * time.Hour, Where: q.at.Name}
	if box := q.r.PostFormValue("sandbox"); box != "" {
		own, err := q.client.App(q.ctx(), app)
		if err != nil {
			return "", err
		}
		if own.Sandbox == nil || own.Sandbox.ClientID == "" {
			return "", problem.New(problem.NotFound, "The app has no part of the development sandbox yet.")
		}
		v.Where = own.Sandbox.Environment
		client, app = q.service.Admin.As(q.session, q.requestID(), v.Where), own.Sandbox.ClientID
	}
	if v.App, err = client.RotateSecret(q.ctx(), app, control.SecretRotation{OverlapSeconds: hours * 3600, SecretID: q.r.PostFormValue("secret_id")}); err != nil {
		return "", err
	}
	return "", q.render(secretPage, shown{title: "A new secret of " + v.App.Name, nav: "apps", data: &v})
}

// completeSandbox makes what is missing of an app's part of the development sandbox, and shows it.
func completeSandbox(q *request) (string, error) {
	app, err := q.client.CompleteSandbox(q.ctx(), q.r.PathValue("app"))
	if err != nil {
		return "", err
	}
	return "", q.render(secretPage, shown{title: "Development sandbox of " + app.Name, nav: "apps", data: &secretView{App: app, Path: q.appPath(app.ClientID)}})
}

func setRedirects(q *request) (string, error) {
	app := q.r.PathValue("app")
	_, err := q.client.SetRedirectURIs(q.ctx(), app, control.RedirectURIs{RedirectURIs: lines(q.r.PostFormValue("redirect_uris"))})
	return q.appPath(app) + "/settings?done=saved", err
}

func setLimits(q *request) (string, error) {
	app := q.r.PathValue("app")
	to := q.appPath(app) + "/settings?done=saved"
	if q.r.PostFormValue("reset") != "" {
		_, err := q.client.ResetAppLimits(q.ctx(), app)
		return to, err
	}
	var in control.NewLimits
	for field, at := range map[string]**int64{"hour": &in.Hour, "spike": &in.Spike} {
		if strings.TrimSpace(q.r.PostFormValue(field)) == "" {
			continue
		}
		n, err := q.number(field)
		if err != nil {
			return "", err
		}
		*at = &n
	}
	_, err := q.client.SetAppLimits(q.ctx(), app, in)
	return to, err
}

func changeOwners(q *request) (string, error) {
	app, login := q.r.PathValue("app"), strings.TrimSpace(q.r.PostFormValue("login"))
	to := q.appPath(app) + "/settings?done=saved"
	if login == "" {
		return "", badField("login", "must be that of a user")
	}
	if q.r.PostFormValue("remove") != "" {
		_, err := q.client.RemoveAppOwner(q.ctx(), app, login)
		if err == nil && q.portal && login == q.session.Login {
			to = developersPath
		}
		return to, err
	}
	_, err := q.client.AddAppOwner(q.ctx(), app, login)
	return to, err
}

// installationsView is where an app is installed.
type installationsView struct {
	appBase
	control.InstallationPage
	Pager pager
}

var installationsPage = page{template: "app-installations", load: func(q *request) (shown, error) {
	base, err := q.app("installations")
	if err != nil {
		return shown{}, err
	}
	number, err := q.pageNumber()
	if err != nil {
		return shown{}, err
	}
	v := installationsView{appBase: base}
	v.InstallationPage, err = q.client.Installations(q.ctx(), base.App.ClientID, number, perPage)
	v.Pager = q.pagerOf(number, v.Total)
	return shown{title: base.App.Name, nav: "apps", data: &v}, err
}}

// eventsView is what an app hears of moves.
type eventsView struct {
	appBase
	Hook       control.Webhook
	Deliveries []control.Delivery
	Test       *control.WebhookTest
}

var eventsPage = page{template: "app-events", load: func(q *request) (shown, error) {
	base, err := q.app("events")
	if err != nil {
		return shown{}, err
	}
	v := eventsView{appBase: base}
	v.Hook, err = q.client.Webhook(q.ctx(), base.App.ClientID)
	if err != nil && !errors.Is(err, problem.New(problem.NotFound, "")) { // it may have none
		return shown{}, err
	}
	list, err := q.client.Deliveries(q.ctx(), base.App.ClientID)
	v.Deliveries = list.Deliveries[:min(len(list.Deliveries), 2*perPage)]
	return shown{title: base.App.Name, nav: "apps", data: &v}, err
}}

func changeWebhook(q *request) (string, error) {
	app := q.r.PathValue("app")
	to := q.appPath(app) + "/events?done=saved"
	switch q.r.PostFormValue("verb") {
	case "set":
		_, err := q.client.SetWebhook(q.ctx(), app, control.NewWebhook{URL: strings.TrimSpace(q.r.PostFormValue("url"))})
		return to, err
	case "rotate":
		_, err := q.client.RotateWebhook(q.ctx(), app, control.SecretRotation{OverlapSeconds: 24 * 3600, SecretID: q.r.PostFormValue("secret_id")})
		return to, err
	case "remove":
		_, err := q.client.RemoveWebhook(q.ctx(), app)
		return to, err
	case "again":
		_, err := q.client.Redeliver(q.ctx(), app, q.r.PostFormValue("event"))
		return q.appPath(app) + "/events?done=again", err
	case "test":
		result, err := q.client.TestWebhook(q.ctx(), app)
		if err != nil {
			return "", err
		}
		what, err := eventsPage.load(q)
		if err != nil {
			return "", err
		}
		if v, ok := what.data.(*eventsView); ok {
			v.Test = &result
		}
		return "", q.render(eventsPage, what)
	}
	return "", problem.New(problem.BadRequest, "A webhook can be set, tested, rotated or removed.")
}
