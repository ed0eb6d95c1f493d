package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"mpr/company"
	"mpr/ledger"
	"mpr/move"
)

// MovePlan is what a move would do.
type MovePlan struct {
	Company company.ID       `json:"company"`
	From    company.Region   `json:"from"`
	To      company.Region   `json:"to"`
	Rows    map[string]int64 `json:"rows"`
	Total   int64            `json:"total"`
	// Bytes is about how much room the company needs at the destination, and Room how much is
	// there for companies; nil where the region doesn't know.
	Bytes int64  `json:"bytes"`
	Room  *int64 `json:"room,omitempty"`
	// Seconds estimates how long the copying takes.
	Seconds float64 `json:"seconds"`
	// Obstacles are why the move can't begin; none is good.
	Obstacles []string `json:"obstacles"`
	// Breaking are the apps that the company would lose.
	Breaking []ledger.Impact   `json:"breaking"`
	Names    map[string]string `json:"names"`
}

// showMovePlan says what a move would do. It changes nothing, and the audit log doesn't hear of it.
func (s *Service) showMovePlan(r *http.Request, e *Environment) (int, any, error) {
	q := r.URL.Query()
	id, err := company.ParseID(q.Get("company"))
	if err != nil {
		return 0, nil, invalid("company", "must be the id of a company")
	}
	in := NewMove{Request: move.Request{Company: id, To: company.Region(q.Get("to"))}, Back: q.Get("back") == "true"}
	if text := q.Get("rate"); text != "" {
		if in.Rate, err = strconv.Atoi(text); err != nil {
			return 0, nil, invalid("rate", "must be a number of rows a second, or 0 for no limit")
		}
	}
	for name, at := range map[string]*time.Time{"not_before": &in.NotBefore, "not_after": &in.NotAfter} {
		if text := q.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return 0, nil, invalid(name, "must be a time such as 2019-04-01T14:00:00Z")
			}
		}
	}
	p, err := s.checkMove(r.Context(), e, &in)
	if err != nil {
		return 0, nil, err
	}
	plan, err := s.planMove(r.Context(), e, p, in.Request)
	return http.StatusOK, plan, err
}

func (s *Service) planMove(ctx context.Context, e *Environment, p company.Placement, in move.Request) (*MovePlan, error) {
	to := in.To
	plan := &MovePlan{Company: p.Company, From: p.Region, To: to, Rows: map[string]int64{}, Obstacles: []string{}, Names: map[string]string{}}
	source, err := e.ownRegion(ctx, p.Company)
	if err != nil {
		return nil, err
	}
	from, err := s.askRegion(ctx, source, p.Company)
	if err != nil {
		return nil, relayRegion(err, source.Code)
	}
	for table, n := range from.Rows {
		plan.Rows[table] = n
		plan.Total += n
	}
	rate := copyRate
	if in.Rate > 0 {
		rate = min(rate, in.Rate)
	}
	plan.Seconds = float64(plan.Total) / float64(rate)
	plan.Bytes = from.Bytes
	info, err := e.region(ctx, to)
	if err != nil {
		return nil, err
	}
	if err := s.planRoom(ctx, e, info, plan); err != nil {
		return nil, err
	}
	if last, err := s.moves.Last(ctx, e.Name, p.Company); err == nil && !last.Phase.Over() {
		plan.Obstacles = append(plan.Obstacles, fmt.Sprintf("The company is moving to %s already.", last.To))
	}
	if plan.Breaking, err = e.Ledger.ImpactOfMove(ctx, e.InForce(), p.Company, to); err != nil {
		return nil, err
	}
	s.nameImpact(ctx, e, plan.Names, plan.Breaking)
	return plan, nil
}

// planRoom asks the destination whether it is there, and has room.
func (s *Service) planRoom(ctx context.Context, e *Environment, info company.RegionInfo, plan *MovePlan) error {
	there, err := s.askRegion(ctx, info, plan.Company)
	if err != nil {
		plan.Obstacles = append(plan.Obstacles, fmt.Sprintf("The region %s doesn't answer: %v", info.Code, err))
		return nil
	}
	if there.Room == nil {
		return nil
	}
	coming, err := s.moves.Coming(ctx, e.Name, info.Code)
	if err != nil {
		return err
	}
	// What is still there of an earlier stay is used again, or makes room.
	plan.Bytes = max(plan.Bytes-there.Bytes, 0)
	plan.Room = new(max(*there.Room-coming, 0))
	if plan.Bytes > *plan.Room {
		plan.Obstacles = append(plan.Obstacles, fmt.Sprintf("%s has no room: the company takes about %s, and %s are free there for companies. Make room, or raise its max_store_bytes if that is the limit; a move that is started waits for it.",
			info.Code, move.Size(plan.Bytes), move.Size(*plan.Room)))
	}
	return nil
}

// PlanMove says what a move would do.
func (c *Client) PlanMove(ctx context.Context, in NewMove) (out MovePlan, err error) {
	q := url.Values{"company": {in.Company.String()}, "to": {string(in.To)}, "back": {strconv.FormatBool(in.Back)}, "rate": {strconv.Itoa(in.Rate)}}
	for name, at := range map[string]time.Time{"not_before": in.NotBefore, "not_after": in.NotAfter} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	err = c.do(ctx, http.MethodGet, "/moves/plan?"+q.Encode(), nil, &out)
	return out, err
}
