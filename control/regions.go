package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"mpr/company"
	"mpr/problem"
)

func (s *Service) listRegions(r *http.Request, e *Environment) (int, any, error) {
	all, err := e.Regions.Regions(r.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, RegionList{Regions: append([]company.RegionInfo{}, all...)}, nil
}

func (s *Service) addRegion(r *http.Request, e *Environment) (int, any, error) {
	var in NewRegion
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	if err := in.check(); err != nil {
		return 0, nil, err
	}
	if slices.Contains(e.Configured, in.Code) {
		return 0, nil, problem.New(problem.Conflict, "Region %s stands in the configuration, which says at each start of the control role where it is. "+
			"Change it there (regions: upstreams, processes, listen, internal, health_path), and start the control role again.", in.Code)
	}
	all, err := e.Regions.Regions(r.Context())
	if err != nil {
		return 0, nil, err
	}
	status := http.StatusCreated
	noted(r).Object = string(in.Code)
	if i := slices.IndexFunc(all, func(other company.RegionInfo) bool { return other.Code == in.Code }); i >= 0 {
		status = http.StatusOK // new addresses of a region that is there
		noted(r).Before = all[i]
	}
	info := company.RegionInfo{Code: in.Code, Number: in.Number, Upstreams: in.Upstreams, HealthPath: in.HealthPath, Internal: in.Internal}
	if err := e.Regions.PutRegion(r.Context(), info); err != nil {
		return 0, nil, err
	}
	noted(r).After = info
	return status, info, nil
}

// drainRegion closes the region in the path to new companies, or opens it again.
func drainRegion(draining bool) handler {
	return func(r *http.Request, e *Environment) (int, any, error) {
		code, err := company.ParseRegion(r.PathValue("region"))
		if err != nil {
			return 0, nil, problem.New(problem.NotFound, "%q is %v.", r.PathValue("region"), err)
		}
		info, err := e.Regions.DrainRegion(r.Context(), code, draining)
		return http.StatusOK, info, err
	}
}

// draining is the refusal of what would bring a company to a region that is being emptied.
func draining(code company.Region) error {
	return problem.New(problem.RegionDraining, "Region %s is being drained and takes no new companies. Name another region, or open it with `mpr region open %s`.", code, code)
}

func (n *NewRegion) check() error {
	if _, err := company.ParseRegion(string(n.Code)); err != nil {
		return invalid("code", err.Error())
	}
	if n.Number < 0 || n.Number > company.MaxRegionNumber {
		return invalid("number", fmt.Sprintf("expected a number from 0 to %d", company.MaxRegionNumber))
	}
	if len(n.Upstreams) == 0 {
		return invalid("upstreams", "name one base URL or more, such as http://10.0.0.7:8080")
	}
	for _, u := range n.Upstreams {
		if !isBaseURL(u) {
			return invalid("upstreams", "expected base URLs with scheme, host and port and nothing else, such as http://10.0.0.7:8080")
		}
	}
	if n.HealthPath != "" && !company.IsHealthPath(n.HealthPath) {
		return invalid("health_path", "expected a path that starts with a slash, such as /readyz")
	}
	if n.Internal != "" && !isBaseURL(n.Internal) {
		return invalid("internal", "expected a base URL with scheme, host and port and nothing else, such as http://10.0.0.7:8081")
	}
	return nil
}

// isBaseURL wants what paths can be appended to.
func isBaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
		u.Path == "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// attempts is how often a company's region is looked up when it turns out to have moved
// on in between.
const attempts = 2

// atCompany has the region where a company lives do something, at a path below the
// company's.
func (s *Service) atCompany(ctx context.Context, e *Environment, id company.ID, method, path string, in, out any) error {
	for attempt := 1; ; attempt++ {
		info, err := e.ownRegion(ctx, id)
		if err != nil {
			return err
		}
		_, err = s.internal.Call(ctx, method, info.Internal+"/internal/companies/"+id.String()+path, in, out)
		moving := errors.Is(err, problem.New(problem.WrongRegion, "")) || errors.Is(err, problem.New(problem.EpochRefused, ""))
		if !moving {
			return relayRegion(err, info.Code)
		}
		if attempt == attempts {
			return problem.New(problem.RegionUnavailable, "Company %d is moving. Try again in a moment.", id).Because(err)
		}
	}
}

// ownRegion is the region where a company lives, which must be one of ours.
func (e *Environment) ownRegion(ctx context.Context, id company.ID) (company.RegionInfo, error) {
	p, err := e.placement(ctx, id)
	if err != nil {
		return company.RegionInfo{}, err
	}
	info, err := e.region(ctx, p.Region)
	if err != nil {
		return company.RegionInfo{}, err
	}
	if info.Internal == "" {
		return company.RegionInfo{}, problem.New(problem.Conflict, "A foreign service stands in for %s, where company %d lives: its members and apps are changed there.", p.Region, id)
	}
	return info, nil
}

// reachable wants companies that exist and whose region is ours, before anything is
// changed.
func (e *Environment) reachable(ctx context.Context, ids []company.ID) error {
	for _, id := range ids {
		if _, err := e.ownRegion(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
