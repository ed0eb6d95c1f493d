package control

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/ledger"
	"mpr/move"
	"mpr/observe"
)

// Signs are what gateways tell of themselves.
type Signs interface {
	Signs(context.Context) ([]directory.Sign, error)
}

// GatewaySays is what a gateway tells of itself with each sign of life: figures of some seconds,
// by region, and nothing of companies, users and apps.
type GatewaySays struct {
	Host    string    `json:"host"`
	Address string    `json:"address"`
	Started time.Time `json:"started"`
	// AgeMillis is how long ago its replica was in step with the directory.
	AgeMillis int64           `json:"age_ms"`
	Companies int             `json:"companies"`
	Figures   observe.Figures `json:"figures"`
}

// The overview, as the admin API shows it.
type (
	// Overview is how an environment is doing.
	Overview struct {
		Environment string    `json:"environment"`
		At          time.Time `json:"at"`
		// Now is the time by which the rules decide.
		Now       time.Time `json:"now"`
		Companies int       `json:"companies"`
		Total     Traffic   `json:"total"`
		// Regions are those of the directory, by number.
		Regions []RegionOverview `json:"regions"`
		// Elsewhere is the traffic that went to no region: answered or refused at a gateway.
		Elsewhere Traffic        `json:"elsewhere"`
		Gateways  []GatewayState `json:"gateways"`
		Moves     []*move.Move   `json:"moves"`
		// MovesMore says that more moves are under way than are listed.
		MovesMore bool            `json:"moves_more,omitempty"`
		Sunset    *SunsetOverview `json:"sunset,omitempty"`
	}
	// Traffic is that of the last seconds, of all gateways.
	Traffic struct {
		CallsPerSecond  float64 `json:"calls_per_second"`
		ErrorsPerSecond float64 `json:"errors_per_second"`
		P50Millis       float64 `json:"p50_ms"`
		P99Millis       float64 `json:"p99_ms"`
		// Course is the calls of each second, in steps of two seconds, the oldest first.
		Course []float64 `json:"course"`
	}
	// RegionOverview is a region.
	RegionOverview struct {
		Code      company.Region `json:"code"`
		Number    int            `json:"number"`
		Draining  bool           `json:"draining"`
		Foreign   bool           `json:"foreign"`
		Companies int            `json:"companies"`
		Traffic   Traffic        `json:"traffic"`
	}
	// GatewayState is a gateway that is alive.
	GatewayState struct {
		Name           string    `json:"name"`
		Host           string    `json:"host"`
		Address        string    `json:"address"`
		Started        time.Time `json:"started"`
		AgeMillis      int64     `json:"age_ms"`
		Companies      int       `json:"companies"`
		CallsPerSecond float64   `json:"calls_per_second"`
	}
	// SunsetOverview is how far the legacy door is from its end, and who still needs it.
	SunsetOverview struct {
		At   time.Time `json:"at"`
		Gone bool      `json:"gone"`
		// Days are those of the trend, Trend the non-compliant calls of each, Calls all of them, and
		// AllCalls all calls of these days through the gateways, compliant or not.
		Days     []string `json:"days"`
		Trend    []int64  `json:"trend"`
		Calls    int64    `json:"calls"`
		AllCalls int64    `json:"all_calls"`
		// Breaking and AtRisk count the apps.
		Breaking int `json:"breaking"`
		AtRisk   int `json:"at_risk"`
		// Worst are the apps with most such calls.
		Worst []WorstApp `json:"worst"`
		// Counted is when these figures were counted.
		Counted time.Time `json:"counted"`
	}
	// WorstApp is an app that isn't compliant.
	WorstApp struct {
		ClientID string       `json:"client_id"`
		Name     string       `json:"name,omitempty"`
		State    ledger.State `json:"state"`
		Calls    int64        `json:"calls"`
	}
)

const (
	// overviewFor is for how long an overview is answered again: however many look at it, it is made
	// once a second.
	overviewFor = 900 * time.Millisecond
	// movesShown and worstShown bound what an overview lists.
	movesShown = 50
	worstShown = 5
)

// overviews keeps the last overview of an environment.
type overviews struct {
	mu   sync.Mutex
	last *Overview
	made time.Time
	// names are those of the apps that were the worst.
	names map[string]string
}

func (s *Service) showOverview(r *http.Request, e *Environment) (int, any, error) {
	o, err := s.overview(r.Context(), e)
	return http.StatusOK, o, err
}

// overview makes an overview, unless it was made just now. One is made at a time.
func (s *Service) overview(ctx context.Context, e *Environment) (*Overview, error) {
	e.seen.mu.Lock()
	defer e.seen.mu.Unlock()
	if e.seen.last != nil && time.Since(e.seen.made) < overviewFor {
		return e.seen.last, nil
	}
	// Who asked first may go away, and others wait for the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), overviewWithin)
	defer cancel()
	o, err := s.makeOverview(ctx, e)
	if err != nil {
		return nil, err
	}
	e.seen.last, e.seen.made = o, time.Now()
	return o, nil
}

const overviewWithin = 10 * time.Second

func (s *Service) makeOverview(ctx context.Context, e *Environment) (*Overview, error) {
	o := &Overview{Environment: e.Name, At: time.Now().UTC(), Now: s.now().UTC(), Regions: []RegionOverview{}, Gateways: []GatewayState{}}
	figures, err := s.gateways(ctx, e, o)
	if err != nil {
		return nil, err
	}
	regions, err := e.Regions.Regions(ctx)
	if err != nil {
		return nil, err
	}
	counts := e.Pages.Companies()
	var total observe.RegionFigures
	for _, f := range figures.Regions {
		total.Add(f)
	}
	o.Total = traffic(&total, figures.Seconds)
	for _, info := range regions {
		o.Regions = append(o.Regions, RegionOverview{
			Code: info.Code, Number: info.Number, Draining: info.Draining, Foreign: info.Internal == "", Companies: counts[info.Code],
			Traffic: traffic(figures.Regions[info.Code], figures.Seconds),
		})
		o.Companies += counts[info.Code]
	}
	slices.SortFunc(o.Regions, func(a, b RegionOverview) int { return cmp.Compare(a.Number, b.Number) })
	o.Elsewhere = traffic(figures.Regions[""], figures.Seconds)
	if o.Moves, err = s.moves.List(ctx, e.Name, true, movesShown+1); err != nil {
		return nil, err
	}
	if o.MovesMore = len(o.Moves) > movesShown; o.MovesMore {
		o.Moves = o.Moves[:movesShown]
	}
	if e.HasLegacyDoor {
		o.Sunset, err = s.sunset(ctx, e)
	}
	return o, err
}

// gateways lists the gateways, and adds up what they tell.
func (s *Service) gateways(ctx context.Context, e *Environment, o *Overview) (sum observe.Figures, err error) {
	signs, err := e.Signs.Signs(ctx)
	if err != nil {
		return sum, err
	}
	for _, sign := range signs {
		var said GatewaySays
		if len(sign.Said) > 0 { // an older gateway says nothing
			if err := json.Unmarshal(sign.Said, &said); err != nil {
				slog.WarnContext(ctx, "a gateway tells of itself what nobody understands", "gateway", sign.Name, "error", err)
				said = GatewaySays{}
			}
		}
		sum.Add(&said.Figures)
		g := GatewayState{Name: sign.Name, Host: said.Host, Address: said.Address, Started: said.Started, AgeMillis: said.AgeMillis, Companies: said.Companies}
		for _, f := range said.Figures.Regions {
			if f != nil {
				g.CallsPerSecond += perSecond(f.Calls, said.Figures.Seconds)
			}
		}
		o.Gateways = append(o.Gateways, g)
	}
	slices.SortFunc(o.Gateways, func(a, b GatewayState) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Name, b.Name))
	})
	return sum, nil
}

func traffic(f *observe.RegionFigures, seconds float64) Traffic {
	if f == nil {
		f = &observe.RegionFigures{}
	}
	t := Traffic{
		CallsPerSecond: perSecond(f.Calls, seconds), ErrorsPerSecond: perSecond(f.Errors, seconds),
		P50Millis: millis(f.Quantile(.5)), P99Millis: millis(f.Quantile(.99)), Course: make([]float64, observe.CourseSteps),
	}
	for i := range min(len(f.Course), len(t.Course)) {
		t.Course[i] = perSecond(f.Course[i], observe.CourseStep.Seconds())
	}
	return t
}

func perSecond(n int64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (s *Service) sunset(ctx context.Context, e *Environment) (*SunsetOverview, error) {
	policy := e.InForce()
	report, err := e.Ledger.Latest(ctx, policy)
	if err != nil {
		return nil, err
	}
	o := &SunsetOverview{
		At: policy.SunsetAt(), Gone: policy.Gone(s.now()), Days: report.Days[:], Trend: make([]int64, ledger.TrendDays), Worst: []WorstApp{}, Counted: report.Counted, AllCalls: report.AllCalls,
	}
	for i := range report.Apps {
		a := &report.Apps[i]
		switch a.State {
		case ledger.Breaking:
			o.Breaking++
		case ledger.AtRisk:
			o.AtRisk++
		default:
			continue
		}
		o.Calls += a.Calls
		for day, n := range a.Trend {
			o.Trend[day] += n
		}
		o.Worst = append(o.Worst, WorstApp{ClientID: a.ClientID, State: a.State, Calls: a.Calls})
	}
	slices.SortStableFunc(o.Worst, func(a, b WorstApp) int { return cmp.Compare(b.Calls, a.Calls) })
	o.Worst = o.Worst[:min(len(o.Worst), worstShown)]
	s.nameWorst(ctx, e, o.Worst)
	return o, nil
}

// nameWorst looks up names, once for each app while it is among the worst.
func (s *Service) nameWorst(ctx context.Context, e *Environment, worst []WorstApp) {
	known := map[string]string{}
	var unknown []string
	for _, a := range worst {
		if name, ok := e.seen.names[a.ClientID]; ok {
			known[a.ClientID] = name
		} else {
			unknown = append(unknown, a.ClientID)
		}
	}
	s.nameAll(ctx, e, known, unknown)
	for i := range worst {
		worst[i].Name = known[worst[i].ClientID]
	}
	e.seen.names = known
}

// Overview says how the environment is doing.
func (c *Client) Overview(ctx context.Context) (out Overview, err error) {
	err = c.do(ctx, http.MethodGet, "/overview", nil, &out)
	return out, err
}
