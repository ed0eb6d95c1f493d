package control

import (
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/ledger"
	"mpr/paging"
	"mpr/problem"
	"mpr/rules"
)

// Ledger says which apps make non-compliant calls.
type Ledger interface {
	// Report is of one app, by its client id, or of all where that is "".
	Report(ctx context.Context, policy *rules.Policy, clientID string) (*ledger.Report, error)
	// Latest is the report of all apps, which may have been made a while ago.
	Latest(context.Context, *rules.Policy) (*ledger.Report, error)
	// Lines lists what an app has to change.
	Lines(ctx context.Context, clientID string, limit, offset int) ([]ledger.Line, int, error)
	// Each calls the function for each line, the oldest first.
	Each(context.Context, ledger.Query, func(ledger.Entry) error) error
	ImpactOn(ctx context.Context, policy *rules.Policy, date time.Time) ([]ledger.Impact, error)
	ImpactOfMove(ctx context.Context, policy *rules.Policy, id company.ID, to company.Region) ([]ledger.Impact, error)
}

// LedgerReport says how all apps stand, and what each must change.
type LedgerReport struct {
	*ledger.Report
	// Total is how many apps there are, where only a page of them is listed.
	Total int `json:"total,omitempty"`
	// Names are the apps' names by their client ids, as far as they are known.
	Names map[string]string `json:"names"`
}

// LedgerImpact says what a date or a move would break.
type LedgerImpact struct {
	Apps  []ledger.Impact   `json:"apps"`
	Names map[string]string `json:"names"`
}

func (s *Service) showLedger(r *http.Request, e *Environment) (int, any, error) {
	q := r.URL.Query()
	if ref := q.Get("client_id"); ref != "" {
		return s.showLedgerOf(r.Context(), e, ref)
	}
	if q.Has("page") || q.Has("per_page") || q.Has("state") {
		return s.pageLedger(r.Context(), e, q)
	}
	report, err := e.Ledger.Report(r.Context(), e.InForce(), "")
	if err != nil {
		return 0, nil, err
	}
	return s.namedLedger(r.Context(), e, report, 0)
}

// namedLedger adds the names of apps to a report.
func (s *Service) namedLedger(ctx context.Context, e *Environment, report *ledger.Report, total int) (int, any, error) {
	out := LedgerReport{Report: report, Total: total, Names: map[string]string{}}
	ids := make([]string, len(report.Apps))
	for i := range report.Apps {
		ids[i] = report.Apps[i].ClientID
	}
	s.nameAll(ctx, e, out.Names, ids)
	return http.StatusOK, out, nil
}

// pageLedger answers a page of the apps of the last report, of one state where that is named.
func (s *Service) pageLedger(ctx context.Context, e *Environment, q url.Values) (int, any, error) {
	p, err := paging.Read(q, maxPerPage)
	if err != nil {
		return 0, nil, err
	}
	state := ledger.State(q.Get("state"))
	if state != "" && !slices.Contains([]ledger.State{ledger.Compliant, ledger.AtRisk, ledger.Breaking}, state) {
		return 0, nil, problem.New(problem.BadRequest, "The parameter state must be compliant, at risk or breaking.")
	}
	all, err := e.Ledger.Latest(ctx, e.InForce())
	if err != nil {
		return 0, nil, err
	}
	report := *all
	report.Apps = []ledger.AppReport{}
	total := 0
	for i := range all.Apps {
		if state != "" && all.Apps[i].State != state {
			continue
		}
		if total++; total > p.Offset() && len(report.Apps) < p.Size {
			report.Apps = append(report.Apps, all.Apps[i])
		}
	}
	return s.namedLedger(ctx, e, &report, total)
}

// showLedgerOf answers one app, by its client id or its id. An app that the ledger has never heard
// of makes no non-compliant calls.
func (s *Service) showLedgerOf(ctx context.Context, e *Environment, ref string) (int, any, error) {
	clientID := ref
	var app App
	unknown := s.identity(ctx, e, http.MethodGet, "/internal/apps/"+segment(ref), nil, &app)
	if unknown == nil {
		clientID = app.ClientID
	}
	report, err := e.Ledger.Report(ctx, e.InForce(), clientID)
	if err != nil {
		return 0, nil, err
	}
	out := LedgerReport{Report: report, Names: map[string]string{}}
	switch {
	case unknown == nil && len(report.Apps) == 0:
		report.Apps = append(report.Apps, ledger.AppReport{ClientID: clientID, App: app.ID, State: ledger.Compliant, Kinds: []ledger.KindReport{}, Companies: []company.ID{}})
	case len(report.Apps) == 0:
		return 0, nil, unknown
	}
	if unknown == nil {
		out.Names[clientID] = app.Name
	}
	return http.StatusOK, out, nil
}

// showCompliance answers how an app stands.
func (s *Service) showCompliance(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	return s.showLedgerOf(r.Context(), e, app.ClientID)
}

// showRehearsals answers the campaign in force, with no brownouts and rehearsals but those of an app.
func (s *Service) showRehearsals(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	record, err := e.campaign(r.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, AppCampaign{ClientID: app.ClientID, Campaign: campaignOf(record.Campaign, app.ClientID), HasLegacyDoor: e.HasLegacyDoor, Now: s.now().UTC()}, nil
}

// campaignOf is a campaign with no brownouts and rehearsals but those of an app.
func campaignOf(c rules.Campaign, clientID string) rules.Campaign {
	c.Rehearsals = slices.DeleteFunc(slices.Clone(c.Rehearsals), func(one rules.Rehearsal) bool { return one.App != clientID })
	var own []rules.Brownout
	for _, b := range c.Brownouts {
		if len(b.Apps) == 0 || slices.Contains(b.Apps, clientID) {
			b.Apps = nil // whom else it is for is none of theirs
			own = append(own, b)
		}
	}
	c.Brownouts = own
	return c
}

// AppCampaign is the campaign as it is for one app.
type AppCampaign struct {
	ClientID      string         `json:"client_id"`
	Campaign      rules.Campaign `json:"campaign"`
	HasLegacyDoor bool           `json:"has_legacy_door"`
	Now           time.Time      `json:"now"`
}

// Compliance answers how an app stands.
func (c *Client) Compliance(ctx context.Context, app string) (out LedgerReport, err error) {
	err = c.do(ctx, http.MethodGet, "/apps/"+segment(app)+"/compliance", nil, &out)
	return out, err
}

// AppCampaign answers the campaign as it is for an app.
func (c *Client) AppCampaign(ctx context.Context, app string) (out AppCampaign, err error) {
	err = c.do(ctx, http.MethodGet, "/apps/"+segment(app)+"/rehearsal", nil, &out)
	return out, err
}

// Installations lists a page of the companies in which an app is installed.
func (c *Client) Installations(ctx context.Context, app string, page, perPage int) (out InstallationPage, err error) {
	err = c.do(ctx, http.MethodGet, fmt.Sprintf("/apps/%s/installations?page=%d&per_page=%d", segment(app), page, perPage), nil, &out)
	return out, err
}

// SetRedirectURIs gives an app other redirect URIs.
func (c *Client) SetRedirectURIs(ctx context.Context, app string, in RedirectURIs) (out App, err error) {
	err = c.do(ctx, http.MethodPut, "/apps/"+segment(app)+"/redirect-uris", in, &out)
	return out, err
}

// LedgerLines are calls that an app has to change.
type LedgerLines struct {
	ClientID string        `json:"client_id"`
	Lines    []ledger.Line `json:"lines"`
	Total    int           `json:"total"`
}

// listLines answers what an app has to change, page by page.
func (s *Service) listLines(r *http.Request, e *Environment) (int, any, error) {
	app, p, err := s.appPage(r, e)
	if err != nil {
		return 0, nil, err
	}
	out := LedgerLines{ClientID: app.ClientID}
	out.Lines, out.Total, err = e.Ledger.Lines(r.Context(), app.ClientID, p.Size, p.Offset())
	return http.StatusOK, out, err
}

// maxNamed bounds the names that are looked up for one answer.
const maxNamed = 1000

// nameAll looks up names of apps. A list without names is better than none.
func (s *Service) nameAll(ctx context.Context, e *Environment, names map[string]string, clientIDs []string) {
	for part := range slices.Chunk(clientIDs[:min(len(clientIDs), maxNamed)], namesAtOnce) {
		part = slices.DeleteFunc(slices.Clone(part), func(id string) bool { return !isName(id) }) // anybody can make up others
		if len(part) == 0 {
			continue
		}
		var found AppPage
		if err := s.identity(ctx, e, http.MethodGet, "/internal/apps?client_ids="+url.QueryEscape(strings.Join(part, ",")), nil, &found); err != nil {
			slog.WarnContext(ctx, "apps stay without their names", "error", err)
			return
		}
		for _, app := range found.Apps {
			names[app.ClientID] = app.Name
		}
	}
}

func (s *Service) showImpact(r *http.Request, e *Environment) (int, any, error) {
	q := r.URL.Query()
	apps, err := impact(r.Context(), e, q)
	if err != nil {
		return 0, nil, err
	}
	out := LedgerImpact{Apps: apps, Names: map[string]string{}}
	s.nameImpact(r.Context(), e, out.Names, apps)
	return http.StatusOK, out, nil
}

func (s *Service) nameImpact(ctx context.Context, e *Environment, names map[string]string, apps []ledger.Impact) {
	ids := make([]string, len(apps))
	for i, a := range apps {
		ids[i] = a.ClientID
	}
	s.nameAll(ctx, e, names, ids)
}

func impact(ctx context.Context, e *Environment, q url.Values) ([]ledger.Impact, error) {
	if q.Has("on") == q.Has("move") {
		return nil, problem.New(problem.BadRequest, "Say on=DAY, or move=COMPANY and to=REGION.")
	}
	if q.Has("on") {
		date, err := time.Parse(time.DateOnly, q.Get("on"))
		if err != nil {
			return nil, invalid("on", "expected a day such as 2019-06-30")
		}
		return e.Ledger.ImpactOn(ctx, e.InForce(), date)
	}
	id, err := company.ParseID(q.Get("move"))
	if err != nil {
		return nil, invalid("move", "expected the id of a company")
	}
	if _, err := e.placement(ctx, id); err != nil {
		return nil, err
	}
	to, err := company.ParseRegion(q.Get("to"))
	if err != nil {
		return nil, invalid("to", err.Error())
	}
	if _, err := e.region(ctx, to); err != nil {
		return nil, err
	}
	return e.Ledger.ImpactOfMove(ctx, e.InForce(), id, to)
}

// ledgerCSV answers the lines of an app, or of all apps, as CSV.
func (s *Service) ledgerCSV(w http.ResponseWriter, r *http.Request) {
	e, err := s.environment(r.PathValue("environment"))
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	q := r.URL.Query()
	if r.PathValue("app") != "" {
		app, err := s.app(r, e)
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		q.Set("client_id", app.ClientID)
	}
	days, err := count(q, "days", ledger.TrendDays, maxLedgerDays)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	out := csv.NewWriter(w)
	begun := false
	begin := func() error {
		begun = true
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		return out.Write([]string{"date", "status", "method", "route", "count", "company", "client_id", "kind", "also", "host", "user_agent"})
	}
	err = e.Ledger.Each(r.Context(), ledger.Query{ClientID: q.Get("client_id"), Days: days}, func(l ledger.Entry) error {
		if !begun {
			if err := begin(); err != nil {
				return err
			}
		}
		companyID := ""
		if l.Company != 0 {
			companyID = l.Company.String()
		}
		return out.Write([]string{
			l.Date, strconv.Itoa(l.Status), plainCell(l.Method), plainCell(l.Route), strconv.FormatInt(l.Count, 10), companyID, plainCell(l.ClientID), string(l.Kind), strconv.FormatBool(l.Also), plainCell(l.Host), plainCell(l.UserAgent),
		})
	})
	switch {
	case err == nil && !begun:
		err = begin()
	case err != nil && !begun:
		problem.Write(w, r, err)
		return
	}
	out.Flush()
	if err != nil {
		// What was sent must not look complete.
		slog.ErrorContext(r.Context(), "the ledger broke off", "error", err)
		panic(http.ErrAbortHandler)
	}
}

const maxLedgerDays = 400

// plainCell keeps spreadsheets from taking what a client says of itself for a formula.
func plainCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// count reads a number from 1 to most from the query.
func count(q url.Values, name string, otherwise, most int) (int, error) {
	if q.Get(name) == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < 1 || n > most {
		return 0, problem.New(problem.BadRequest, "The parameter %s must be a number from 1 to %d.", name, most)
	}
	return n, nil
}
