package console

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"mpr/company"
	"mpr/control"
	"mpr/move"
	"mpr/operator"
	"mpr/problem"
)

// companyList is a page of companies.
type companyList struct {
	Text    string
	Region  string
	Regions []company.RegionInfo
	control.CompanyPage
	// More is where the next page is; "" where there is none.
	More, First string
	Searched    bool
}

var companiesPage = page{template: "companies", load: loadCompanies}

func loadCompanies(q *request) (shown, error) {
	list := companyList{Text: strings.TrimSpace(q.r.URL.Query().Get("q")), Region: q.r.URL.Query().Get("region")}
	what := shown{title: "Companies", nav: "companies", data: &list}
	var err error
	if list.Regions, err = q.client.Regions(q.ctx()); err != nil {
		return what, err
	}
	query := control.CompanyQuery{PerPage: perPage, Text: list.Text, Region: company.Region(list.Region)}
	if text := q.r.URL.Query().Get("after"); text != "" {
		if query.After, err = company.ParseID(text); err != nil {
			return what, problem.New(problem.BadRequest, "The link to this page of companies is wrong: %v.", err)
		}
		list.First = link(q.r.URL.Path, "q", list.Text, "region", list.Region)
	}
	// An id leads to its company, and nothing else has digits alone for a name as a rule.
	if id, err := company.ParseID(list.Text); err == nil && query.After == 0 {
		one, err := q.client.Company(q.ctx(), id)
		if err == nil {
			list.Companies = append(list.Companies, one.Company)
		} else if !errors.Is(err, problem.New(problem.NotFound, "")) {
			return what, err
		}
	}
	found, err := q.client.Companies(q.ctx(), query)
	if errors.Is(err, problem.New(problem.BadRequest, "")) && list.Text != "" { // nothing in it can be looked for
		found, err = control.CompanyPage{}, nil
	}
	if err != nil {
		return what, err
	}
	list.Searched = list.Text != ""
	for _, one := range found.Companies {
		if len(list.Companies) == 0 || list.Companies[0].ID != one.ID {
			list.Companies = append(list.Companies, one)
		}
	}
	if found.Next != 0 {
		list.More = link(q.r.URL.Path, "q", list.Text, "region", list.Region, "after", found.Next.String())
	}
	return what, nil
}

func createCompany(q *request) (string, error) {
	made, err := q.client.CreateCompany(q.ctx(), control.NewCompany{
		Name: strings.TrimSpace(q.r.PostFormValue("name")), Region: company.Region(q.r.PostFormValue("region")), Onboarded: q.r.PostFormValue("onboarded"), IdempotencyKey: q.r.PostFormValue("key"),
	})
	return q.at.Path() + "/companies/" + made.ID.String() + "?done=made", q.reused(err)
}

// newCompany is the form for a company.
type newCompany struct {
	Regions []company.RegionInfo
	// Key makes sending the form twice safe.
	Key string
}

var newCompanyPage = page{template: "company-new", load: func(q *request) (shown, error) {
	if err := q.needs(operator.Operator); err != nil {
		return shown{}, err
	}
	regions, err := q.client.Regions(q.ctx())
	return shown{title: "Make a company", nav: "companies", data: newCompany{regions, q.key()}}, err
}}

// companyView is all of a company.
type companyView struct {
	control.CompanyDetails
	Regions []company.RegionInfo
	// Move is the last move, nil where there was none, and Events are what became of it.
	Move   *move.Move
	Events []move.Event
	// To is where it is asked to move, and Plan what that would do.
	To   company.Region
	Plan *control.MovePlan
	// Why is why it can't be planned.
	Why *problem.Problem
	// Came is where the company came from by its last move, and could go back to.
	Came company.Region
}

var companyPage = page{template: "company", load: loadCompany, live: []string{"standing", "moving"}}

func loadCompany(q *request) (shown, error) {
	id, err := q.company()
	if err != nil {
		return shown{}, err
	}
	var v companyView
	if v.CompanyDetails, err = q.client.Company(q.ctx(), id); err != nil {
		return shown{}, err
	}
	if v.Regions, err = q.client.Regions(q.ctx()); err != nil {
		return shown{}, err
	}
	last, err := q.client.WatchMove(q.ctx(), id.String(), 0)
	switch {
	case err == nil:
		v.Move, v.Events = last.Move, last.Events
		if v.Move.Phase.Over() && v.Move.Phase != move.Aborted && v.Move.To == v.Region {
			v.Came = v.Move.From
		}
	case !errors.Is(err, problem.New(problem.NotFound, "")):
		return shown{}, err
	}
	v.To = company.Region(cmp.Or(q.r.URL.Query().Get("to"), q.r.PostFormValue("to"))) // a move that was refused is still planned
	if v.To != "" && q.covers(operator.Operator) && !q.wantsStream() {
		plan, err := q.client.PlanMove(q.ctx(), control.NewMove{Request: move.Request{Company: id, To: v.To}})
		if v.Plan = &plan; err != nil {
			v.Plan, v.Why = nil, problem.From(err)
		}
	}
	return shown{title: cmp.Or(v.Name, "Company "+id.String()), nav: "companies", data: &v}, nil
}

// company is the company in the path.
func (q *request) company() (company.ID, error) {
	id, err := company.ParseID(q.r.PathValue("company"))
	if err != nil {
		return 0, problem.New(problem.NotFound, "%q is %v.", q.r.PathValue("company"), err)
	}
	return id, nil
}

func startMove(q *request) (string, error) {
	id, err := q.company()
	if err != nil {
		return "", err
	}
	in := control.NewMove{Request: move.Request{Company: id, To: company.Region(q.r.PostFormValue("to"))}, Back: q.r.PostFormValue("back") != ""}
	rate, err := q.number("rate")
	if err == nil {
		in.NotBefore, err = q.moment("not_before")
	}
	if err == nil {
		in.NotAfter, err = q.moment("not_after")
	}
	if err != nil {
		return "", err
	}
	in.Rate = int(rate)
	_, err = q.client.StartMove(q.ctx(), in)
	return q.at.Path() + "/companies/" + id.String() + "?done=moving", err
}

func steerMove(q *request) (string, error) {
	id, err := q.company()
	if err != nil {
		return "", err
	}
	verb, err := q.verb("pause", "resume", "abort", "hurry")
	if err != nil {
		return "", err
	}
	var in control.Steering
	if verb == "hurry" {
		verb, in.Now = "resume", true
	}
	_, err = q.client.SteerMove(q.ctx(), id.String(), verb, in)
	return q.at.Path() + "/companies/" + id.String() + "?done=" + verb, err
}

func addUser(q *request) (string, error) {
	id, err := q.company()
	if err != nil {
		return "", err
	}
	_, err = q.client.AddUser(q.ctx(), id, control.Member{Login: strings.TrimSpace(q.r.PostFormValue("login"))})
	return q.at.Path() + "/companies/" + id.String() + "?done=joined", err
}

// proofView is what is known of a company's moves, the newest first.
type proofView struct {
	control.MoveProof
	Newest []control.ProvenMove
}

var proofPage = page{template: "proof", load: func(q *request) (shown, error) {
	id, err := q.company()
	if err != nil {
		return shown{}, err
	}
	proof, err := q.client.ProveMoves(q.ctx(), id)
	newest := slices.Clone(proof.Moves)
	slices.Reverse(newest)
	return shown{title: "Proof of company " + id.String(), nav: "companies", data: proofView{proof, newest[:min(len(newest), perPage)]}}, err
}}

// moveList is a page of moves.
type moveList struct {
	Active []*move.Move
	control.MoveList
	Pager pager
}

var movesPage = page{template: "moves", live: []string{"moves"}, load: func(q *request) (shown, error) {
	number, err := q.pageNumber()
	if err != nil {
		return shown{}, err
	}
	var v moveList
	active, err := q.client.Moves(q.ctx(), true)
	if err != nil {
		return shown{}, err
	}
	v.Active = active.Moves[:min(len(active.Moves), perPage)]
	if v.MoveList, err = q.client.MovePage(q.ctx(), number, perPage); err != nil {
		return shown{}, err
	}
	v.Pager = q.pagerOf(number, v.Total)
	return shown{title: "Moves", nav: "moves", data: &v}, nil
}}
