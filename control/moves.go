package control

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"mpr/company"
	"mpr/move"
	"mpr/paging"
	"mpr/problem"
)

// Moves as the admin API shows them.
type (
	// NewMove asks for a move.
	NewMove struct {
		move.Request
		// Back asks to move the company back to where it came from.
		Back bool `json:"back,omitempty"`
	}
	// Move is a move as it stands.
	Move = move.Move
	// MoveEvent is what became of a move.
	MoveEvent = move.Event
	// MoveList lists moves, the newest first.
	MoveList struct {
		Moves []*move.Move `json:"moves"`
		// Total is how many there are, where a page was asked for.
		Total int `json:"total,omitempty"`
	}
	// MoveProof is what is known of a company's moves.
	MoveProof struct {
		Company company.ID   `json:"company"`
		Moves   []ProvenMove `json:"moves"`
		// Copies lists where rows of the company are.
		Copies []MoveCopy `json:"copies"`
	}
	// ProvenMove is a move and what became of it.
	ProvenMove struct {
		*move.Move
		Events []move.Event `json:"events"`
	}
	// MoveProgress is how a move stands, and what became of it since somebody looked last.
	MoveProgress struct {
		Move   *move.Move   `json:"move"`
		Events []move.Event `json:"events"`
	}
	// MoveCopy says that a region has rows of a company.
	MoveCopy struct {
		Region company.Region `json:"region"`
		// Serves says that the company lives there; other copies are unreachable.
		Serves bool  `json:"serves"`
		Rows   int64 `json:"rows"`
		// Problem is why the region couldn't be asked.
		Problem string `json:"problem,omitempty"`
	}
	// Steering is what an operator asks of a move.
	Steering struct {
		By string `json:"by"`
		// Now drops the delays of apps from a move that is resumed.
		Now bool `json:"now,omitempty"`
		// Leave gives a move up without its destination, which is lost for good.
		Leave bool `json:"leave,omitempty"`
	}
)

// Size writes a number of bytes for people: 1.2 GB.
func Size(bytes int64) string { return move.Size(bytes) }

// copyRate is how many rows a second are copied, for estimates: what a small machine does.
const copyRate = 20_000

const (
	movesListed = 500
	// farthestMove is how many years ahead a move may be planned: what is beyond is a slip of the
	// keyboard, and would stand among those under way for good.
	farthestMove = 100
	maxBy        = 200
)

func checkBy(by string) error {
	if strings.TrimSpace(by) == "" || len(by) > maxBy || strings.ContainsFunc(by, unicode.IsControl) {
		return invalid("by", "must say who asks for it, in one line of at most 200 bytes")
	}
	return nil
}

// startMove queues a move, or says what it would do.
func (s *Service) startMove(r *http.Request, e *Environment) (int, any, error) {
	var in NewMove
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	placement, err := s.checkMove(r.Context(), e, &in)
	if err != nil {
		return 0, nil, err
	}
	if in.By = by(r, in.By); checkBy(in.By) != nil {
		return 0, nil, checkBy(in.By)
	}
	noted(r).Object, noted(r).After = in.Company.String(), in.Request
	m, err := s.moves.Add(noted(r).With(r.Context()), e.Name, placement.Region, in.Request)
	if err != nil {
		return 0, nil, err
	}
	s.wakeMover()
	return http.StatusAccepted, m, nil
}

// checkMove finds the company that is to move, and where to, and whether it may.
func (s *Service) checkMove(ctx context.Context, e *Environment, in *NewMove) (p company.Placement, err error) {
	if in.Company <= 0 {
		return p, invalid("company", "must be the id of a company")
	}
	if in.Rate < 0 {
		return p, invalid("rate", "must be a number of rows a second, or 0 for no limit")
	}
	if !in.NotAfter.IsZero() && !in.NotAfter.After(in.NotBefore) {
		return p, invalid("not_after", "must come after not_before")
	}
	for field, at := range map[string]time.Time{"not_before": in.NotBefore, "not_after": in.NotAfter} {
		if at.After(s.moves.Now().AddDate(farthestMove, 0, 0)) {
			return p, invalid(field, fmt.Sprintf("is more than %d years ahead", farthestMove))
		}
	}
	if now := s.moves.Now(); !in.NotAfter.IsZero() && !in.NotAfter.After(now) {
		return p, invalid("not_after", fmt.Sprintf("is over: it is %s now, and the window ended at %s", now.UTC().Format(time.RFC3339), in.NotAfter.UTC().Format(time.RFC3339)))
	}
	if p, err = e.placement(ctx, in.Company); err != nil {
		return p, err
	}
	if in.Back {
		if in.To, err = s.cameFrom(ctx, e, p); err != nil {
			return p, err
		}
	}
	return p, e.movable(ctx, p, in.To)
}

// movable wants the company to live elsewhere, and both regions to take part in moves.
func (e *Environment) movable(ctx context.Context, p company.Placement, to company.Region) error {
	if _, err := company.ParseRegion(string(to)); err != nil {
		return invalid("to", err.Error())
	}
	if p.Region == to {
		return problem.New(problem.Conflict, "Company %d lives in %s already.", p.Company, to)
	}
	for _, code := range []company.Region{to, p.Region} {
		info, err := e.region(ctx, code)
		if err != nil {
			return err
		}
		if code == to && info.Draining {
			return draining(to)
		}
		if info.Internal == "" {
			return problem.New(problem.Conflict, "The region %s takes no part in moves: it has no internal address. Give it one with mpr region add --internal URL.", code)
		}
	}
	return nil
}

// cameFrom is the region that a company came from by its last move, but for those that were given
// up.
func (s *Service) cameFrom(ctx context.Context, e *Environment, p company.Placement) (company.Region, error) {
	all, err := s.moves.OfCompany(ctx, e.Name, p.Company)
	if err != nil {
		return "", err
	}
	for _, last := range slices.Backward(all) {
		switch {
		case last.Phase == move.Aborted:
			continue
		case !last.Phase.Over():
			return "", problem.New(problem.Conflict, "Company %d is moving to %s: the move is %s.", p.Company, last.To, last.Phase)
		case last.To != p.Region:
			return "", problem.New(problem.Conflict, "The last move of company %d went to %s, and it lives in %s.", p.Company, last.To, p.Region)
		}
		return last.From, nil
	}
	return "", problem.New(problem.NotFound, "Company %d has never moved.", p.Company)
}

// atRegion is what a region says of a company by the contract of moves.
type atRegion struct {
	Rows  map[string]int64 `json:"rows"`
	Bytes int64            `json:"bytes"`
	Room  *int64           `json:"room"`
}

// askRegion has a region count what it has of a company.
func (s *Service) askRegion(ctx context.Context, info company.RegionInfo, id company.ID) (state atRegion, err error) {
	_, err = s.internal.Call(ctx, http.MethodGet, fmt.Sprintf("%s/contract/v1/companies/%d/state?rows=1", info.Internal, id), nil, &state)
	return state, err
}

func (s *Service) listMoves(r *http.Request, e *Environment) (int, any, error) {
	q := r.URL.Query()
	if q.Has("page") || q.Has("per_page") {
		p, err := paging.Read(q, movesListed)
		if err != nil {
			return 0, nil, err
		}
		var out MoveList
		out.Moves, out.Total, err = s.moves.Page(r.Context(), e.Name, p.Size, p.Offset())
		return http.StatusOK, out, err
	}
	list, err := s.moves.List(r.Context(), e.Name, q.Get("active") == "1", movesListed)
	return http.StatusOK, MoveList{Moves: list}, err
}

// ofMove finds the move in the path: by its id, or a company's last one.
func (s *Service) ofMove(r *http.Request, e *Environment) (*move.Move, error) {
	name := r.PathValue("move")
	if id, err := company.ParseID(name); err == nil {
		return s.moves.Last(r.Context(), e.Name, id)
	}
	return s.moves.Get(r.Context(), e.Name, name)
}

func (s *Service) showMove(r *http.Request, e *Environment) (int, any, error) {
	m, err := s.ofMove(r, e)
	return http.StatusOK, m, err
}

// watchMove answers the move as it stands, and the events behind a number.
func (s *Service) watchMove(r *http.Request, e *Environment) (int, any, error) {
	after, err := strconv.ParseInt(cmp.Or(r.URL.Query().Get("after"), "0"), 10, 64)
	if err != nil || after < 0 {
		return 0, nil, invalid("after", "must be the number of an event, or 0 for all")
	}
	m, err := s.ofMove(r, e)
	if err != nil {
		return 0, nil, err
	}
	events, err := s.moves.Events(r.Context(), m.ID, after)
	if err != nil {
		return 0, nil, err
	}
	if n := len(events); n > 0 && events[n-1].Phase != m.Phase { // it went on in between
		m, err = s.moves.Get(r.Context(), e.Name, m.ID)
	}
	return http.StatusOK, MoveProgress{m, events}, err
}

// steer has an operator pause, resume or abort a move.
func (s *Service) steer(do func(context.Context, *move.Move, Steering) error) handler {
	return func(r *http.Request, e *Environment) (int, any, error) {
		var in Steering
		if err := readJSON(r, &in); err != nil {
			return 0, nil, err
		}
		if in.By = by(r, in.By); checkBy(in.By) != nil {
			return 0, nil, checkBy(in.By)
		}
		m, err := s.ofMove(r, e)
		if err != nil {
			return 0, nil, err
		}
		noted(r).Object, noted(r).After = m.Company.String(), in
		if err := do(noted(r).With(r.Context()), m, in); err != nil {
			return 0, nil, err
		}
		s.wakeMover()
		m, err = s.moves.Get(r.Context(), e.Name, m.ID)
		return http.StatusOK, m, err
	}
}

func (s *Service) pause(ctx context.Context, m *move.Move, in Steering) error {
	if err := in.allows(false, false); err != nil {
		return err
	}
	return s.moves.Pause(ctx, m, true, in.By)
}

func (s *Service) resume(ctx context.Context, m *move.Move, in Steering) error {
	if err := in.allows(true, false); err != nil {
		return err
	}
	if in.Now {
		return s.moves.Hurry(ctx, m, in.By)
	}
	return s.moves.Pause(ctx, m, false, in.By)
}

func (s *Service) abort(ctx context.Context, m *move.Move, in Steering) error {
	if err := in.allows(false, true); err != nil {
		return err
	}
	return s.moves.Abort(ctx, m, in.Leave, in.By)
}

// allows refuses what is asked besides, unless it is allowed.
func (in Steering) allows(now, leave bool) error {
	switch {
	case in.Now && !now:
		return invalid("now", "only a move that is resumed can drop the delays of apps")
	case in.Leave && !leave:
		return invalid("leave", "only a move that is aborted can leave its destination")
	}
	return nil
}

func (s *Service) proveMoves(r *http.Request, e *Environment) (int, any, error) {
	placement, err := e.pathPlacement(r)
	if err != nil {
		return 0, nil, err
	}
	list, err := s.moves.OfCompany(r.Context(), e.Name, placement.Company)
	if err != nil {
		return 0, nil, err
	}
	proof := MoveProof{Company: placement.Company, Moves: []ProvenMove{}, Copies: []MoveCopy{}}
	for _, m := range list {
		events, err := s.moves.Events(r.Context(), m.ID, 0)
		if err != nil {
			return 0, nil, err
		}
		proof.Moves = append(proof.Moves, ProvenMove{m, events})
	}
	regions, err := e.Regions.Regions(r.Context())
	if err != nil {
		return 0, nil, err
	}
	for _, info := range regions {
		if info.Internal == "" {
			continue
		}
		c := MoveCopy{Region: info.Code, Serves: info.Code == placement.Region}
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		state, err := s.askRegion(ctx, info, placement.Company)
		cancel()
		if err != nil {
			c.Problem = "it can't be asked: " + problem.From(err).Message
		}
		for _, n := range state.Rows {
			c.Rows += n
		}
		if c.Rows > 0 || c.Serves || c.Problem != "" {
			proof.Copies = append(proof.Copies, c)
		}
	}
	return http.StatusOK, proof, nil
}

// StartMove asks for a move.
func (c *Client) StartMove(ctx context.Context, in NewMove) (out Move, err error) {
	err = c.do(ctx, http.MethodPost, "/moves", in, &out)
	return out, err
}

// Moves lists the last moves; those under way only where active is set.
func (c *Client) Moves(ctx context.Context, active bool) (out MoveList, err error) {
	path := "/moves"
	if active {
		path += "?active=1"
	}
	err = c.do(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

// MovePage lists a page of all moves.
func (c *Client) MovePage(ctx context.Context, page, perPage int) (out MoveList, err error) {
	err = c.do(ctx, http.MethodGet, fmt.Sprintf("/moves?page=%d&per_page=%d", page, perPage), nil, &out)
	return out, err
}

// Move answers a move by its id, or the last one of a company.
func (c *Client) Move(ctx context.Context, name string) (out Move, err error) {
	err = c.do(ctx, http.MethodGet, "/moves/"+segment(name), nil, &out)
	return out, err
}

// WatchMove answers how a move stands, by its id or that of a company, and its events behind the
// one with the number after.
func (c *Client) WatchMove(ctx context.Context, name string, after int64) (out MoveProgress, err error) {
	err = c.do(ctx, http.MethodGet, fmt.Sprintf("/moves/%s/events?after=%d", segment(name), after), nil, &out)
	return out, err
}

// SteerMove has a move paused, resumed or aborted: verb is "pause", "resume" or "abort".
func (c *Client) SteerMove(ctx context.Context, name, verb string, in Steering) (out Move, err error) {
	err = c.do(ctx, http.MethodPost, "/moves/"+segment(name)+"/"+verb, in, &out)
	return out, err
}

// ProveMoves answers what is known of a company's moves.
func (c *Client) ProveMoves(ctx context.Context, id company.ID) (out MoveProof, err error) {
	err = c.do(ctx, http.MethodGet, "/companies/"+id.String()+"/moves", nil, &out)
	return out, err
}
