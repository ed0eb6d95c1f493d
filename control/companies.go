package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/operator"
	"mpr/paging"
	"mpr/problem"
)

// Limits of the list of companies.
const (
	maxPerPage = 1000
	// searchesAtOnce bounds how often one request asks for companies of a name.
	searchesAtOnce = 4
	// namesAtOnce is how many names are asked for at once: their ids stand in a URL.
	namesAtOnce = 200
)

func (s *Service) createCompany(r *http.Request, e *Environment) (int, any, error) {
	var in NewCompany
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	asked := in
	asked.IdempotencyKey = ""
	if in.Onboarded == "" {
		in.Onboarded = s.now().UTC().Format(time.DateOnly)
	}
	day, err := time.Parse(time.DateOnly, in.Onboarded)
	if err != nil {
		return 0, nil, invalid("onboarded", "expected a day such as 2019-01-01")
	}
	if day.After(s.now().AddDate(10, 0, 0)) {
		return 0, nil, invalid("onboarded", "is more than ten years ahead")
	}
	candidates, err := e.candidates(r.Context(), in.Region)
	if err != nil {
		return 0, nil, err
	}
	claim, err := s.claim(r.Context(), e, "company", in.IdempotencyKey, asked)
	if err != nil {
		return 0, nil, err
	}
	if claim == nil {
		in.IdempotencyKey = rand.Text()
	} else if p, err := e.madeBefore(r.Context(), claim); p.Company != 0 || err != nil {
		noted(r).Object = p.Company.String()
		return http.StatusCreated, describe(p, in.Name), err
	}
	made, old, err := s.makeCompany(r.Context(), e, candidates, in, day)
	if err == nil && old {
		err = s.sameCompany(r.Context(), e, made, asked)
	}
	if err != nil {
		return 0, nil, nothingMade(r.Context(), claim, err)
	}
	noted(r).Object, noted(r).After = made.ID.String(), made
	return http.StatusCreated, made, claim.Keep(r.Context(), made.ID.String())
}

// madeBefore is the company that a key has made, wherever it lives by now; the zero placement where
// there is none.
func (e *Environment) madeBefore(ctx context.Context, claim *operator.Claim) (company.Placement, error) {
	id, err := company.ParseID(claim.Made)
	if err != nil {
		return company.Placement{}, nil //nolint:nilerr // it has made none yet
	}
	p, err := e.placement(ctx, id)
	if errors.Is(err, problem.New(problem.NotFound, "")) { // the directory has lost it: it is placed again
		return company.Placement{}, nil
	}
	return p, err
}

// sameCompany refuses a company that its key has made before, where that isn't the one that is asked
// for. Within a day of that, the claim has told already.
func (s *Service) sameCompany(ctx context.Context, e *Environment, made Company, asked NewCompany) error {
	details := CompanyDetails{Company: made}
	info, err := e.region(ctx, made.Region)
	if err == nil {
		err = s.inspect(ctx, info, &details)
	}
	if err == nil && (details.Name != asked.Name || asked.Onboarded != "" && details.Onboarded != asked.Onboarded) {
		err = operator.KeyReused()
	}
	return err
}

// makeCompany has the first of the regions that takes it make the company, and places it. It says
// whether the region had made it before, for the same key.
func (s *Service) makeCompany(ctx context.Context, e *Environment, candidates []company.RegionInfo, in NewCompany, day time.Time) (out Company, old bool, err error) {
	var made birth
	var info company.RegionInfo
	for _, info = range candidates {
		in.Region = info.Code
		if made, err = s.bearOrAdopt(ctx, info, in); !errors.Is(err, problem.New(problem.RegionDraining, "")) {
			break
		}
	}
	if err != nil {
		return out, false, err
	}
	p, err := place(ctx, e, company.Placement{Company: made.ID, Region: in.Region, Epoch: made.Epoch, Onboarded: day}, in.ID == 0)
	if err != nil {
		return out, false, err
	}
	if info.Internal != "" { // a foreign service publishes no changes: there is nothing to wait for
		s.awaitIndex(ctx, e, made.ID, made.Version)
	}
	return describe(p, in.Name), made.old, nil
}

// candidates are the regions where a company may be made: the one that is named or, where none
// is, the default region, and after it the others, for as long as it is drained.
func (e *Environment) candidates(ctx context.Context, named company.Region) ([]company.RegionInfo, error) {
	first, err := e.region(ctx, cmp.Or(named, e.DefaultRegion))
	if err != nil || named != "" || !first.Draining {
		return []company.RegionInfo{first}, err
	}
	all, err := e.Regions.Regions(ctx)
	list := []company.RegionInfo{first}
	for _, info := range all {
		if info.Code != first.Code && info.Internal != "" && !info.Draining {
			list = append(list, info)
		}
	}
	return list, err
}

// bearOrAdopt has a region make the company; where a foreign service stands in for it, the
// company is there already.
func (s *Service) bearOrAdopt(ctx context.Context, info company.RegionInfo, in NewCompany) (birth, error) {
	switch {
	case info.Internal != "":
		return s.bear(ctx, info, in, nil)
	case info.Draining:
		return birth{}, draining(info.Code)
	case in.ID <= 0 || in.ID > company.MaxID:
		return birth{}, invalid("id", fmt.Sprintf("a foreign service stands in for %s and gives the ids: name the company's id, from 1 to %d", in.Region, company.MaxID))
	}
	return birth{ID: in.ID, Epoch: 1}, nil
}

// birth is what a region answers when it has made a company.
type birth struct {
	ID      company.ID    `json:"id"`
	Epoch   company.Epoch `json:"epoch"`
	Version int64         `json:"version"`

	old bool // it had made it before, for the same key
}

// bear has a region make the company, with these projects, unless it is drained. The key makes it safe to repeat: where we die
// before the directory knows the company, the same request again finds it.
func (s *Service) bear(ctx context.Context, info company.RegionInfo, in NewCompany, projects []map[string]any) (birth, error) {
	if in.ID != 0 {
		return birth{}, invalid("id", fmt.Sprintf("%s gives the ids of its companies itself: leave it out", in.Region))
	}
	body := map[string]any{"name": in.Name, "onboarded": in.Onboarded, "idempotency_key": in.IdempotencyKey, "closed": info.Draining}
	if len(projects) > 0 {
		body["projects"] = projects
	}
	var out birth
	status, err := s.internal.Call(ctx, http.MethodPost, info.Internal+"/internal/companies", body, &out)
	out.old = status == http.StatusOK
	return out, relayRegion(err, info.Code)
}

// place makes the placement. A company whose creation is repeated may have moved in
// between: then its placement is the answer.
func place(ctx context.Context, e *Environment, p company.Placement, repeatable bool) (company.Placement, error) {
	err := e.Placements.Create(ctx, p)
	if err == nil || !repeatable || !errors.Is(err, problem.New(problem.Conflict, "")) {
		return p, err
	}
	now, _, getErr := e.Placements.Get(ctx, p.Company)
	if getErr != nil {
		return p, errors.Join(err, getErr)
	}
	return now, nil
}

func describe(p company.Placement, name string) Company {
	return Company{ID: p.Company, Name: name, Region: p.Region, Epoch: p.Epoch, Onboarded: p.Onboarded.UTC().Format(time.DateOnly)}
}

func (s *Service) showCompany(r *http.Request, e *Environment) (int, any, error) {
	p, err := e.pathPlacement(r)
	if err != nil {
		return 0, nil, err
	}
	details := CompanyDetails{Company: describe(p, "")}
	if details.History, err = s.stays(r.Context(), e, p); err != nil {
		return 0, nil, err
	}
	info, err := e.region(r.Context(), p.Region)
	if err == nil {
		err = s.inspect(r.Context(), info, &details)
	}
	if err != nil {
		// The directory's part is worth an answer of its own: it is what an operator
		// looks for when a region is down.
		details.Unknown = problem.From(err).Message
	}
	return http.StatusOK, details, nil
}

// inspect asks the region for its part of the details.
func (s *Service) inspect(ctx context.Context, info company.RegionInfo, details *CompanyDetails) error {
	if info.Internal == "" {
		return problem.New(problem.NotFound, "A foreign service stands in for %s: name and fence are its own affair.", info.Code)
	}
	id := details.ID.String()
	var own struct {
		Name string `json:"name"`
	}
	if _, err := s.internal.Call(ctx, http.MethodGet, info.Internal+"/internal/companies/"+id, nil, &own); err != nil {
		return relayRegion(err, info.Code)
	}
	details.Name = own.Name
	var fence Fence
	if _, err := s.internal.Call(ctx, http.MethodGet, info.Internal+"/internal/fence/"+id, nil, &fence); err != nil {
		return relayRegion(err, info.Code)
	}
	details.Fence = &fence
	return nil
}

func (s *Service) listCompanies(r *http.Request, e *Environment) (int, any, error) {
	q := r.URL.Query()
	part, err := paging.Read(q, maxPerPage) // the list goes on by "after", and not by number
	if err != nil {
		return 0, nil, err
	}
	var after company.ID
	if v := q.Get("after"); v != "" {
		if after, err = company.ParseID(v); err != nil {
			return 0, nil, problem.New(problem.BadRequest, "The parameter after is %v.", err)
		}
	}
	region := company.Region(q.Get("region"))
	if region != "" {
		if _, err := e.region(r.Context(), region); err != nil {
			return 0, nil, err
		}
	}
	text := strings.TrimSpace(q.Get("q"))
	if text == "" {
		page, err := s.list(r.Context(), e, after, part.Size, region)
		return http.StatusOK, page, err
	}
	page, err := s.search(r.Context(), e, after, part.Size, region, text)
	return http.StatusOK, page, err
}

// list lists placements by id, with their names.
func (s *Service) list(ctx context.Context, e *Environment, after company.ID, limit int, region company.Region) (CompanyPage, error) {
	page := CompanyPage{Companies: []Company{}}
	placements := e.Pages.Page(after, limit+1, region)
	if len(placements) > limit {
		placements = placements[:limit]
		page.Next = placements[limit-1].Company
	}
	for part := range slices.Chunk(placements, namesAtOnce) {
		names, err := s.names(ctx, e, part)
		if err != nil {
			return page, err
		}
		for _, p := range part {
			page.Companies = append(page.Companies, describe(p, names[p.Company]))
		}
	}
	return page, nil
}

// search lists companies, by id, in whose name each word of the text begins a word. It asks the
// global index, a few times at the most: a page may be short and not be the last one.
func (s *Service) search(ctx context.Context, e *Environment, after company.ID, limit int, region company.Region, text string) (CompanyPage, error) {
	page := CompanyPage{Companies: []Company{}}
	for range searchesAtOnce {
		var found struct {
			Companies []struct {
				ID   company.ID `json:"id"`
				Name string     `json:"name"`
			} `json:"companies"`
			Next company.ID `json:"next"`
		}
		path := "/internal/companies?" + url.Values{"q": {text}, "after": {after.String()}, "limit": {strconv.Itoa(limit)}}.Encode()
		if err := s.identity(ctx, e, http.MethodGet, path, nil, &found); err != nil {
			return page, err
		}
		for _, one := range found.Companies {
			p, placed := e.Pages.Placement(one.ID)
			if !placed || region != "" && p.Region != region {
				continue
			}
			if len(page.Companies) == limit {
				page.Next = after
				return page, nil
			}
			page.Companies, after = append(page.Companies, describe(p, one.Name)), one.ID
		}
		if page.Next = found.Next; found.Next == 0 || len(page.Companies) == limit {
			return page, nil
		}
		after = found.Next
	}
	return page, nil
}

// names asks the global index for the names of companies.
func (s *Service) names(ctx context.Context, e *Environment, placements []company.Placement) (map[company.ID]string, error) {
	names := map[company.ID]string{}
	if len(placements) == 0 {
		return names, nil
	}
	ids := make([]string, len(placements))
	for i, p := range placements {
		ids[i] = p.Company.String()
	}
	var out []struct {
		ID   company.ID `json:"id"`
		Name string     `json:"name"`
	}
	if err := s.identity(ctx, e, http.MethodGet, "/internal/companies?ids="+strings.Join(ids, ","), nil, &out); err != nil {
		return nil, err
	}
	for _, c := range out {
		names[c.ID] = c.Name
	}
	return names, nil
}

// placement reads where a company lives.
func (e *Environment) placement(ctx context.Context, id company.ID) (company.Placement, error) {
	p, _, err := e.Placements.Get(ctx, id)
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		return p, problem.New(problem.NotFound, "There is no company %d in %s.", id, e.Name).Because(err)
	}
	return p, err
}

// pathCompany reads the company in the request's path.
func pathCompany(r *http.Request) (company.ID, error) {
	id, err := company.ParseID(r.PathValue("company"))
	if err != nil {
		return 0, problem.New(problem.NotFound, "%q is %v.", r.PathValue("company"), err)
	}
	return id, nil
}

// pathPlacement is where the company in the request's path lives.
func (e *Environment) pathPlacement(r *http.Request) (company.Placement, error) {
	id, err := pathCompany(r)
	if err != nil {
		return company.Placement{}, err
	}
	return e.placement(r.Context(), id)
}

func relayRegion(err error, code company.Region) error {
	return relay(err, problem.RegionUnavailable, "The region "+string(code))
}
