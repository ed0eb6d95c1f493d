package control

import (
	"context"
	"encoding/csv"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"mpr/company"
	"mpr/ledger"
	"mpr/problem"
	"mpr/rules"
)

// Ledger says which apps make non-compliant calls.
type Ledger interface {
	Report(context.Context, *rules.Policy) (*ledger.Report, error)
	// Each calls the function for each line, the oldest first.
	Each(context.Context, ledger.Query, func(ledger.Entry) error) error
	ImpactOn(ctx context.Context, policy *rules.Policy, date time.Time) ([]ledger.Impact, error)
	ImpactOfMove(ctx context.Context, policy *rules.Policy, id company.ID, to company.Region) ([]ledger.Impact, error)
}

// LedgerReport says how all apps stand, and what each must change.
type LedgerReport struct {
	*ledger.Report
	// Names are the apps' names by their client ids, as far as they are known.
	Names map[string]string `json:"names"`
}

// LedgerImpact says what a date or a move would break.
type LedgerImpact struct {
	Apps  []ledger.Impact   `json:"apps"`
	Names map[string]string `json:"names"`
}

func (s *Service) showLedger(r *http.Request, e *Environment) (int, any, error) {
	report, err := e.Ledger.Report(r.Context(), e.InForce())
	if err != nil {
		return 0, nil, err
	}
	out := LedgerReport{Report: report, Names: map[string]string{}}
	if ref := r.URL.Query().Get("client_id"); ref != "" {
		if err := s.onlyOf(r.Context(), e, report, ref); err != nil {
			return 0, nil, err
		}
	}
	for _, a := range report.Apps {
		s.name(r.Context(), e, out.Names, a.ClientID)
	}
	return http.StatusOK, out, nil
}

// onlyOf leaves one app in a report, found by its client id or its id. An app that the ledger
// has never heard of makes no non-compliant calls.
func (s *Service) onlyOf(ctx context.Context, e *Environment, report *ledger.Report, ref string) error {
	report.Strangers = []ledger.Stranger{}
	clientID := ref
	var app App
	unknown := s.identity(ctx, e, http.MethodGet, "/internal/apps/"+url.PathEscape(ref), nil, &app)
	if unknown == nil {
		clientID = app.ClientID
	}
	report.Apps = slices.DeleteFunc(report.Apps, func(a ledger.AppReport) bool { return a.ClientID != clientID })
	switch {
	case len(report.Apps) > 0: // it needn't exist any more
	case unknown != nil:
		return unknown
	default:
		report.Apps = append(report.Apps, ledger.AppReport{ClientID: clientID, App: app.ID, State: ledger.Compliant, Kinds: []ledger.KindReport{}, Companies: []company.ID{}})
	}
	return nil
}

// maxNamed bounds the names that are looked up for one answer.
const maxNamed = 200

// name looks up an app's name. A list without names is better than none.
func (s *Service) name(ctx context.Context, e *Environment, names map[string]string, clientID string) {
	if _, known := names[clientID]; known || len(names) >= maxNamed {
		return
	}
	var app App
	if err := s.identity(ctx, e, http.MethodGet, "/internal/apps/"+url.PathEscape(clientID), nil, &app); err == nil {
		names[clientID] = app.Name
	}
}

func (s *Service) showImpact(r *http.Request, e *Environment) (int, any, error) {
	q := r.URL.Query()
	apps, err := impact(r.Context(), e, q)
	if err != nil {
		return 0, nil, err
	}
	out := LedgerImpact{Apps: apps, Names: map[string]string{}}
	for _, a := range apps {
		s.name(r.Context(), e, out.Names, a.ClientID)
	}
	return http.StatusOK, out, nil
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
			l.Date, strconv.Itoa(l.Status), l.Method, l.Route, strconv.FormatInt(l.Count, 10), companyID, plainCell(l.ClientID), string(l.Kind), strconv.FormatBool(l.Also), plainCell(l.Host), plainCell(l.UserAgent),
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
	if s != "" && (s[0] == '=' || s[0] == '+' || s[0] == '-' || s[0] == '@') {
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
