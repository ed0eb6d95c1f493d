package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"mpr/company"
	"mpr/intercom"
	"mpr/operator"
	"mpr/problem"
)

// Client calls the admin API for one environment. Refusals come back as
// *problem.Problem.
type Client struct {
	caller *intercom.Caller
	admin  string
	base   string
	// session says that what is shown is the secret of a session.
	session bool
}

// NewClient makes a client for the admin API at a base URL, such as
// http://127.0.0.1:4090. The token is the admin API's, or the secret of a session.
func NewClient(admin, token, environment string) *Client {
	return &Client{
		caller:  intercom.NewCaller(http.DefaultTransport, token),
		admin:   admin,
		base:    admin + prefix + "/" + segment(environment),
		session: strings.HasPrefix(token, operator.SecretPrefix),
	}
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	_, err := c.caller.Call(ctx, method, c.base+path, in, out)
	return c.explain(err)
}

func (c *Client) explain(err error) error {
	var p *problem.Problem
	switch {
	case err == nil || errors.As(err, &p) && p.Code != problem.Unauthorized:
		return err
	case p != nil && c.session:
		return fmt.Errorf("your session at %s has ended: sign in again with `mpr signin`, or give the admin token with --token-file FILE: %w", c.admin, err)
	case p != nil:
		return fmt.Errorf("the admin API at %s refuses the token: give the content of its token file: %w", c.admin, err)
	}
	return fmt.Errorf("the admin API at %s can't be reached, is mpr running? %w", c.admin, err)
}

// Environments lists all environments.
func (c *Client) Environments(ctx context.Context) ([]EnvironmentInfo, error) {
	var out EnvironmentList
	_, err := c.caller.Call(ctx, http.MethodGet, c.admin+prefix, nil, &out)
	return out.Environments, err
}

// CreateCompany makes a company.
func (c *Client) CreateCompany(ctx context.Context, in NewCompany) (out Company, err error) {
	err = c.do(ctx, http.MethodPost, "/companies", in, &out)
	return out, err
}

// CompanyQuery selects companies.
type CompanyQuery struct {
	After company.ID
	// PerPage is the size of a page; 0 for the server's own.
	PerPage int
	// Region is "" for all.
	Region company.Region
	// Text has words, each of which begins a word of the name, in any case.
	Text string
}

// Companies lists a page of companies, in the order of their ids.
func (c *Client) Companies(ctx context.Context, q CompanyQuery) (out CompanyPage, err error) {
	v := url.Values{}
	if q.After != 0 {
		v.Set("after", q.After.String())
	}
	if q.PerPage != 0 {
		v.Set("per_page", strconv.Itoa(q.PerPage))
	}
	if q.Region != "" {
		v.Set("region", string(q.Region))
	}
	if q.Text != "" {
		v.Set("q", q.Text)
	}
	err = c.do(ctx, http.MethodGet, "/companies?"+v.Encode(), nil, &out)
	return out, err
}

// Company shows a company.
func (c *Client) Company(ctx context.Context, id company.ID) (out CompanyDetails, err error) {
	err = c.do(ctx, http.MethodGet, "/companies/"+id.String(), nil, &out)
	return out, err
}

// AddUser makes a user a member of a company.
func (c *Client) AddUser(ctx context.Context, id company.ID, in Member) (out User, err error) {
	err = c.do(ctx, http.MethodPut, "/companies/"+id.String()+"/users", in, &out)
	return out, err
}

// Regions lists the regions.
func (c *Client) Regions(ctx context.Context) ([]company.RegionInfo, error) {
	var out RegionList
	err := c.do(ctx, http.MethodGet, "/regions", nil, &out)
	return out.Regions, err
}

// AddRegion adds a region, or changes the addresses of one.
func (c *Client) AddRegion(ctx context.Context, in NewRegion) (out company.RegionInfo, err error) {
	err = c.do(ctx, http.MethodPost, "/regions", in, &out)
	return out, err
}

// DrainRegion closes a region to new companies, or opens it again.
func (c *Client) DrainRegion(ctx context.Context, code company.Region, draining bool) (out company.RegionInfo, err error) {
	verb := "open"
	if draining {
		verb = "drain"
	}
	err = c.do(ctx, http.MethodPost, "/regions/"+segment(string(code))+"/"+verb, nil, &out)
	return out, err
}

// CreateUser makes a user.
func (c *Client) CreateUser(ctx context.Context, in NewUser) (out User, err error) {
	err = c.do(ctx, http.MethodPost, "/users", in, &out)
	return out, err
}

// CreateApp makes an app.
func (c *Client) CreateApp(ctx context.Context, in NewApp) (out App, err error) {
	err = c.do(ctx, http.MethodPost, "/apps", in, &out)
	return out, err
}

// CreateServiceAccount makes a service account.
func (c *Client) CreateServiceAccount(ctx context.Context, in NewServiceAccount) (out App, err error) {
	err = c.do(ctx, http.MethodPost, "/service-accounts", in, &out)
	return out, err
}

// Apps lists a page of apps and service accounts.
func (c *Client) Apps(ctx context.Context, page, perPage int) (out AppPage, err error) {
	err = c.do(ctx, http.MethodGet, fmt.Sprintf("/apps?page=%d&per_page=%d", page, perPage), nil, &out)
	return out, err
}

// SearchApps lists apps by words of their names, or the beginning of their client ids, behind an id.
func (c *Client) SearchApps(ctx context.Context, text string, after int64, perPage int) (out AppPage, err error) {
	err = c.do(ctx, http.MethodGet, "/apps?"+url.Values{"q": {text}, "after": {strconv.FormatInt(after, 10)}, "per_page": {strconv.Itoa(perPage)}}.Encode(), nil, &out)
	return out, err
}

// App shows an app, by id or client id.
func (c *Client) App(ctx context.Context, app string) (out App, err error) {
	err = c.do(ctx, http.MethodGet, "/apps/"+segment(app), nil, &out)
	return out, err
}

// SetSandbox says whether the monthly sandbox gets a copy of a company.
func (c *Client) SetSandbox(ctx context.Context, id company.ID, in SandboxSetting) (out SandboxSetting, err error) {
	err = c.do(ctx, http.MethodPut, "/companies/"+id.String()+"/sandbox", in, &out)
	return out, err
}

// MonthlySandbox answers the state of the monthly sandbox.
func (c *Client) MonthlySandbox(ctx context.Context) (out MonthlySandbox, err error) {
	err = c.do(ctx, http.MethodGet, "/sandboxes/monthly", nil, &out)
	return out, err
}

// PlanMonthlySandbox lists what a refresh of the monthly sandbox would copy.
func (c *Client) PlanMonthlySandbox(ctx context.Context) (out SandboxPlan, err error) {
	err = c.do(ctx, http.MethodGet, "/sandboxes/monthly/plan", nil, &out)
	return out, err
}

// RefreshMonthlySandbox begins a refresh, which goes on when the call has ended.
func (c *Client) RefreshMonthlySandbox(ctx context.Context) (out SandboxRun, err error) {
	err = c.do(ctx, http.MethodPost, "/sandboxes/monthly/refresh", nil, &out)
	return out, err
}

// CompleteSandbox makes what is missing of an app's part of the development sandbox.
func (c *Client) CompleteSandbox(ctx context.Context, app string) (out App, err error) {
	err = c.do(ctx, http.MethodPut, "/apps/"+segment(app)+"/sandbox", nil, &out)
	return out, err
}

// RotateSecret makes a new client secret.
func (c *Client) RotateSecret(ctx context.Context, app string, in SecretRotation) (out App, err error) {
	err = c.do(ctx, http.MethodPost, "/apps/"+segment(app)+"/rotate-secret", in, &out)
	return out, err
}

// Install connects an app to a company.
func (c *Client) Install(ctx context.Context, app string, id company.ID, in NewInstallation) (out Installation, err error) {
	err = c.do(ctx, http.MethodPut, "/apps/"+segment(app)+"/installations/"+id.String(), in, &out)
	return out, err
}

// Keys lists the signing keys.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	var out KeyList
	err := c.do(ctx, http.MethodGet, "/keys", nil, &out)
	return out.Keys, err
}

// RotateKey announces a new signing key.
func (c *Client) RotateKey(ctx context.Context) (out RotatedKey, err error) {
	err = c.do(ctx, http.MethodPost, "/keys/rotate", nil, &out)
	return out, err
}

// Policy shows the campaign in force, and those before it where history is wanted.
func (c *Client) Policy(ctx context.Context, history bool) (out Policy, err error) {
	err = c.do(ctx, http.MethodGet, "/policy?history="+strconv.FormatBool(history), nil, &out)
	return out, err
}

// SetPolicy puts a campaign in force.
func (c *Client) SetPolicy(ctx context.Context, in NewPolicy) (out Policy, err error) {
	err = c.do(ctx, http.MethodPut, "/policy", in, &out)
	return out, err
}

// Ledger says how apps stand: one app, by its client id or its id, or all where it is "".
func (c *Client) Ledger(ctx context.Context, app string) (out LedgerReport, err error) {
	path := "/ledger"
	if app != "" {
		path += "?" + url.Values{"client_id": {app}}.Encode()
	}
	err = c.do(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

// LedgerPage says how a page of the apps stand, of one state where that isn't "".
func (c *Client) LedgerPage(ctx context.Context, state string, page, perPage int) (out LedgerReport, err error) {
	v := url.Values{"page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(perPage)}}
	if state != "" {
		v.Set("state", state)
	}
	err = c.do(ctx, http.MethodGet, "/ledger?"+v.Encode(), nil, &out)
	return out, err
}

// AppCalls lists the calls that an app has to change.
func (c *Client) AppCalls(ctx context.Context, app string, page, perPage int) (out LedgerLines, err error) {
	err = c.do(ctx, http.MethodGet, fmt.Sprintf("/apps/%s/calls?page=%d&per_page=%d", segment(app), page, perPage), nil, &out)
	return out, err
}

// ImpactOn says what would break on a day, such as 2019-07-01.
func (c *Client) ImpactOn(ctx context.Context, day string) (out LedgerImpact, err error) {
	err = c.do(ctx, http.MethodGet, "/ledger/impact?"+url.Values{"on": {day}}.Encode(), nil, &out)
	return out, err
}

// ImpactOfMove says which apps a company would lose by moving to a region.
func (c *Client) ImpactOfMove(ctx context.Context, id company.ID, to company.Region) (out LedgerImpact, err error) {
	err = c.do(ctx, http.MethodGet, "/ledger/impact?"+url.Values{"move": {id.String()}, "to": {string(to)}}.Encode(), nil, &out)
	return out, err
}

// LedgerCSV writes the lines of an app, or of all where clientID is empty, of so many
// days as CSV.
func (c *Client) LedgerCSV(ctx context.Context, to io.Writer, clientID string, days int) error {
	return c.caller.Download(ctx, c.base+"/ledger.csv?"+url.Values{"client_id": {clientID}, "days": {strconv.Itoa(days)}}.Encode(), to)
}

// BackUpDirectory writes the records of the directory, of all environments.
func (c *Client) BackUpDirectory(ctx context.Context, to io.Writer) error {
	return c.explain(c.caller.Download(ctx, c.admin+backupPath, to))
}

// VerifyDirectory compares the directory with the regions' fences. It tells of differences and
// of progress as they come.
func (c *Client) VerifyDirectory(ctx context.Context, tell func(SurveyLine)) (Survey, error) {
	return c.survey(ctx, http.MethodGet, "/directory/verify", nil, tell)
}

// RebuildDirectory fills the directory from the regions' fences.
func (c *Client) RebuildDirectory(ctx context.Context, in NewRebuild, tell func(SurveyLine)) (Survey, error) {
	return c.survey(ctx, http.MethodPost, "/directory/rebuild", in, tell)
}

func (c *Client) survey(ctx context.Context, method, path string, in any, tell func(SurveyLine)) (Survey, error) {
	var body io.Reader
	caller := c.caller
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return Survey{}, err
		}
		body, caller = bytes.NewReader(data), caller.With("Content-Type", "application/json")
	}
	answer, err := caller.Open(ctx, method, c.base+path, body)
	if err != nil {
		return Survey{}, c.explain(err)
	}
	defer answer.Close()
	lines := json.NewDecoder(answer)
	for {
		var line SurveyLine
		if err := lines.Decode(&line); err != nil {
			return Survey{}, fmt.Errorf("the admin API broke off; repeat it: %w", err)
		}
		switch {
		case line.Result != nil:
			return *line.Result, nil
		case line.Code != "":
			return Survey{}, &problem.Problem{Code: line.Code, Message: line.Message}
		}
		tell(line)
	}
}

// segment is a text as a part of a path, and nothing that leads out of it.
func segment(text string) string {
	if text == "." || text == ".." {
		return strings.ReplaceAll(text, ".", "%2E")
	}
	return url.PathEscape(text)
}
