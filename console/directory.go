package console

import (
	"errors"
	"strings"

	"mpr/company"
	"mpr/control"
	"mpr/problem"
)

// directoryView is the regions, and the last comparison of the directory with their fences.
type directoryView struct {
	Regions      []company.RegionInfo
	Verification control.Verification
}

var directoryPage = page{template: "directory", live: []string{"verification"}, load: func(q *request) (shown, error) {
	var v directoryView
	var err error
	if v.Regions, err = q.client.Regions(q.ctx()); err != nil {
		return shown{}, err
	}
	v.Verification, err = q.client.Verification(q.ctx())
	return shown{title: "Directory", nav: "directory", data: &v}, err
}}

func startVerification(q *request) (string, error) {
	_, err := q.client.StartVerification(q.ctx())
	return q.at.Path() + "/directory?done=comparing", err
}

func drainRegion(q *request) (string, error) {
	verb, err := q.verb("drain", "open")
	if err != nil {
		return "", err
	}
	_, err = q.client.DrainRegion(q.ctx(), company.Region(q.r.PostFormValue("region")), verb == "drain")
	return q.at.Path() + "/directory?done=saved", err
}

func addRegion(q *request) (string, error) {
	number, err := q.number("number")
	if err != nil {
		return "", err
	}
	_, err = q.client.AddRegion(q.ctx(), control.NewRegion{
		Code: company.Region(strings.TrimSpace(q.r.PostFormValue("code"))), Number: int(number), Upstreams: lines(q.r.PostFormValue("upstreams")),
		HealthPath: strings.TrimSpace(q.r.PostFormValue("health_path")), Internal: strings.TrimSpace(q.r.PostFormValue("internal")),
	})
	return q.at.Path() + "/directory?done=saved", err
}

// sandboxView is the monthly sandbox of an environment.
type sandboxView struct {
	// None says why there is none to see here.
	None string
	control.MonthlySandbox
}

var sandboxPage = page{template: "sandbox", live: []string{"refresh"}, load: func(q *request) (shown, error) {
	var v sandboxView
	what := shown{title: "Monthly sandbox", nav: "sandbox", data: &v}
	state, err := q.client.MonthlySandbox(q.ctx())
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		v.None = problem.From(err).Message
		return what, nil
	}
	v.MonthlySandbox = state
	return what, err
}}

func refreshSandbox(q *request) (string, error) {
	_, err := q.client.RefreshMonthlySandbox(q.ctx())
	return q.at.Path() + "/sandbox?done=refreshing", err
}

func setSandbox(q *request) (string, error) {
	id, err := company.ParseID(strings.TrimSpace(q.r.PostFormValue("company")))
	if err != nil {
		return "", badField("company", "must be the id of a company")
	}
	verb, err := q.verb("enable", "disable")
	if err != nil {
		return "", err
	}
	_, err = q.client.SetSandbox(q.ctx(), id, control.SandboxSetting{Enabled: verb == "enable"})
	return q.at.Path() + "/sandbox?done=saved", err
}
