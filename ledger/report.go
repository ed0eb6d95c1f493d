package ledger

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"mpr/company"
	"mpr/rules"
)

// TrendDays is how many days a report looks back, today among them.
const TrendDays = 14

// State says how an app stands.
type State string

// The states of an app.
const (
	// Compliant: no non-compliant call in the days of the trend.
	Compliant State = "compliant"
	// AtRisk: its non-compliant calls still work.
	AtRisk State = "at risk"
	// Breaking: some of its calls were refused for what they lack.
	Breaking State = "breaking"
)

// AppReport is what the ledger says of an app.
type AppReport struct {
	ClientID string `json:"client_id"`
	App      int64  `json:"app,omitempty"`
	State    State  `json:"state"`
	// Since is the first day on which the app was non-compliant, as far back as counts are
	// kept.
	Since string `json:"since"`
	// Trend holds the non-compliant calls of each day, the oldest first.
	Trend [TrendDays]int64 `json:"trend"`
	Calls int64            `json:"calls"`
	// Refused are those of the calls that were refused for what they lack.
	Refused int64        `json:"refused"`
	Kinds   []KindReport `json:"kinds"`
	// Companies are those of the calls.
	Companies []company.ID `json:"companies"`
}

// KindReport is what an app does of one kind, and what to change.
type KindReport struct {
	Kind   Kind   `json:"kind"`
	Calls  int64  `json:"calls"`
	Change string `json:"change"`
	// Trend holds the calls of each day, the oldest first.
	Trend [TrendDays]int64 `json:"trend"`
}

// Stranger is who calls without a valid token.
type Stranger struct {
	Host      string `json:"host"`
	UserAgent string `json:"user_agent"`
	Kind      Kind   `json:"kind"`
	Calls     int64  `json:"calls"`
}

// Report is what the ledger says of all apps: those that break first, and among them
// those with most calls.
type Report struct {
	Days      [TrendDays]string `json:"days"`
	Apps      []AppReport       `json:"apps"`
	Strangers []Stranger        `json:"strangers"`
	// AllCalls are all calls of these days, compliant or not.
	AllCalls int64 `json:"all_calls"`
	// Counted is when the report was made.
	Counted time.Time `json:"counted"`
}

// maxListed bounds the companies of an app's report, and the strangers.
const maxListed = 100

// Report says how apps stand: one, by its client id, or all where that is "".
func (b *Book) Report(ctx context.Context, policy *rules.Policy, clientID string) (*Report, error) {
	today := dayOf(b.now())
	r := &Report{Apps: []AppReport{}, Strangers: []Stranger{}, Counted: time.Now().UTC()}
	for i := range r.Days {
		r.Days[i] = (today - day(TrendDays-1-i)).String()
	}
	since, err := b.since(ctx, clientID)
	if err != nil {
		return nil, err
	}
	err = b.db.Read().QueryRowContext(ctx, `SELECT COALESCE(SUM(calls), 0) FROM ledger_calls WHERE environment = $1 AND day > $2`, b.environment, int64(today)-TrendDays).Scan(&r.AllCalls)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	apps := map[string]*AppReport{}
	strangers := map[Stranger]int64{}
	err = b.Each(ctx, Query{ClientID: clientID, Days: TrendDays}, func(e Entry) error {
		if e.ClientID == "" {
			strangers[Stranger{Host: e.Host, UserAgent: e.UserAgent, Kind: e.Kind}] += e.Count
			return nil
		}
		at := slices.Index(r.Days[:], e.Date)
		if at < 0 {
			return nil // of a day to come: a gateway's clock is ahead
		}
		a := apps[e.ClientID]
		if a == nil {
			a = &AppReport{ClientID: e.ClientID, State: AtRisk, Since: since[e.ClientID]}
			apps[e.ClientID] = a
		}
		a.add(e, at, policy)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id, first := range since {
		if apps[id] == nil { // it was non-compliant once
			apps[id] = &AppReport{ClientID: id, State: Compliant, Since: first, Kinds: []KindReport{}, Companies: []company.ID{}}
		}
	}
	for _, a := range apps {
		r.Apps = append(r.Apps, *a)
	}
	slices.SortFunc(r.Apps, func(a, b AppReport) int {
		return cmp.Or(cmp.Compare(rank(b.State), rank(a.State)), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.ClientID, b.ClientID))
	})
	for s, n := range strangers {
		s.Calls = n
		r.Strangers = append(r.Strangers, s)
	}
	slices.SortFunc(r.Strangers, func(a, b Stranger) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Host, b.Host), cmp.Compare(a.UserAgent, b.UserAgent), cmp.Compare(a.Kind, b.Kind))
	})
	r.Strangers = r.Strangers[:min(len(r.Strangers), maxListed)]
	return r, nil
}

func rank(s State) int { return slices.Index([]State{Compliant, AtRisk, Breaking}, s) }

// add takes a line of the ledger into the report of its app.
func (a *AppReport) add(e Entry, at int, policy *rules.Policy) {
	a.App = max(a.App, e.App)
	if !e.Also {
		a.Calls += e.Count
		a.Trend[at] += e.Count
	}
	if e.Refused {
		if !e.Also { // a call that lacks two things is refused once
			a.Refused += e.Count
		}
		a.State = Breaking
	}
	i := slices.IndexFunc(a.Kinds, func(k KindReport) bool { return k.Kind == e.Kind })
	if i < 0 {
		i = len(a.Kinds)
		a.Kinds = append(a.Kinds, KindReport{Kind: e.Kind, Change: e.Kind.Change(policy)})
	}
	a.Kinds[i].Calls += e.Count
	a.Kinds[i].Trend[at] += e.Count
	if a.Companies == nil {
		a.Companies = []company.ID{}
	}
	if e.Company != 0 && len(a.Companies) < maxListed && !slices.Contains(a.Companies, e.Company) {
		a.Companies = append(a.Companies, e.Company)
	}
}

// since is the first day of an app in the ledger, or of all.
func (b *Book) since(ctx context.Context, clientID string) (map[string]string, error) {
	which, args := `client_id <> ''`, []any{b.environment}
	if clientID != "" {
		which, args = `client_id = $2`, append(args, clientID)
	}
	rows, err := b.db.Read().QueryContext(ctx, `SELECT client_id, MIN(day) FROM ledger WHERE environment = $1 AND `+which+` GROUP BY client_id`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	defer rows.Close()
	since := map[string]string{}
	for rows.Next() {
		var id string
		var first day
		if err := rows.Scan(&id, &first); err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
		since[id] = first.String()
	}
	return since, rows.Err()
}

// Line is what an app calls, added up over days and companies.
type Line struct {
	Kind      Kind   `json:"kind"`
	Method    string `json:"method"`
	Route     string `json:"route"`
	Status    int    `json:"status"`
	Refused   bool   `json:"refused"`
	Companies int    `json:"companies"`
	Calls     int64  `json:"calls"`
	// Last is the last day on which there was such a call.
	Last string `json:"last"`
}

// Lines lists the calls that an app makes and has to change, those that it makes most first, of
// the days of the trend; and how many lines there are.
func (b *Book) Lines(ctx context.Context, clientID string, limit, offset int) (list []Line, total int, err error) {
	const of = ` FROM ledger WHERE environment = $1 AND client_id = $2 AND day > $3 GROUP BY kind, method, route, status, refused`
	args := []any{b.environment, clientID, int64(dayOf(b.now())) - TrendDays}
	rows, err := b.db.Read().QueryContext(ctx, `SELECT kind, method, route, status, refused, COUNT(DISTINCT NULLIF(company_id, 0)), SUM(count), MAX(day), COUNT(*) OVER ()`+of+
		` ORDER BY 7 DESC, kind, method, route, status, refused LIMIT $4 OFFSET $5`, append(slices.Clone(args), limit, offset)...)
	if err != nil {
		return nil, 0, fmt.Errorf("read the ledger: %w", err)
	}
	defer rows.Close()
	list = []Line{}
	for rows.Next() {
		var l Line
		var refused int64
		var last day
		if err := rows.Scan(&l.Kind, &l.Method, &l.Route, &l.Status, &refused, &l.Companies, &l.Calls, &last, &total); err != nil {
			return nil, 0, fmt.Errorf("read the ledger: %w", err)
		}
		l.Refused, l.Last = refused != 0, last.String()
		list = append(list, l)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, fmt.Errorf("read the ledger: %w", err)
	}
	if len(list) == 0 && offset > 0 { // behind the end nothing tells of the total
		err = b.db.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1`+of+`) AS counted`, args...).Scan(&total)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the ledger: %w", err)
	}
	return list, total, nil
}

// Impact is an app that would lose companies.
type Impact struct {
	ClientID string `json:"client_id"`
	// Companies are those that the app would no longer reach; none where it reaches the
	// legacy door without one.
	Companies []company.ID `json:"companies"`
	// Calls are the calls of the last days that would have been refused.
	Calls   int64    `json:"calls"`
	Changes []string `json:"changes"`
}

// ImpactOn says which apps, and with them which companies, would break if that were the
// date: those that used the legacy door in the last days and weren't refused.
func (b *Book) ImpactOn(ctx context.Context, policy *rules.Policy, date time.Time) ([]Impact, error) {
	if !policy.Gone(date) {
		return []Impact{}, nil
	}
	return b.impact(ctx, policy, 0)
}

// ImpactOfMove says which apps a company would lose by moving to a region now: those that
// reach it through the legacy door, which leads to the default region only.
func (b *Book) ImpactOfMove(ctx context.Context, policy *rules.Policy, id company.ID, to company.Region) ([]Impact, error) {
	if to == policy.DefaultRegion {
		return []Impact{}, nil
	}
	return b.impact(ctx, policy, id)
}

func (b *Book) impact(ctx context.Context, policy *rules.Policy, id company.ID) ([]Impact, error) {
	byApp := map[string]*Impact{}
	err := b.Each(ctx, Query{Days: TrendDays, Company: id}, func(e Entry) error {
		if e.ClientID == "" || e.Status >= http.StatusBadRequest || e.Kind != LegacyAPIHost && e.Kind != LegacyLoginHost {
			return nil
		}
		one := byApp[e.ClientID]
		if one == nil {
			one = &Impact{ClientID: e.ClientID, Companies: []company.ID{}, Changes: policy.RequiredChanges()}
			byApp[e.ClientID] = one
		}
		one.Calls += e.Count
		if e.Company != 0 && !slices.Contains(one.Companies, e.Company) {
			one.Companies = append(one.Companies, e.Company)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]Impact, 0, len(byApp))
	for _, one := range byApp {
		slices.Sort(one.Companies)
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Impact) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.ClientID, b.ClientID))
	})
	return list, nil
}

// Total is how many calls of a kind there were in a day.
type Total struct {
	Kind    Kind
	Refused bool
	Calls   int64
}

// Today adds up the calls of this day.
func (b *Book) Today(ctx context.Context) (list []Total, err error) {
	rows, err := b.db.Read().QueryContext(ctx, `SELECT kind, refused, SUM(count) FROM ledger WHERE environment = $1 AND day = $2 GROUP BY 1, 2`, b.environment, int64(dayOf(b.now())))
	if err != nil {
		return nil, fmt.Errorf("add up the ledger: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var t Total
		if err := rows.Scan(&t.Kind, &t.Refused, &t.Calls); err != nil {
			return nil, fmt.Errorf("add up the ledger: %w", err)
		}
		list = append(list, t)
	}
	return list, rows.Err()
}
