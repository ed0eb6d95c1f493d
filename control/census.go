package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
)

// Registry is the directory as a whole: to be read past all copies, and filled.
type Registry interface {
	// Census reads the buckets themselves, which it makes where they were lost.
	Census(context.Context) (*directory.Census, error)
	// Load makes many placements; [problem.Conflict] where one of a batch is there already.
	Load(context.Context, iter.Seq[company.Placement]) (int, error)
	// Update replaces a placement that has still the revision.
	Update(context.Context, company.Placement, uint64) (uint64, error)
	// TellIndex has all regions of ours tell the global index of all that they have.
	TellIndex(context.Context) error
}

// fencesAtOnce is how many fences of a region are in memory at the same time.
const fencesAtOnce = 1000

// fences goes through the fences of a region in the order of companies.
type fences struct {
	service *Service
	info    company.RegionInfo
	page    []listedFence
	after   company.ID
	end     bool
}

// listedFence is how regions list their fences.
type listedFence struct {
	Company company.ID `json:"company"`
	Fence
	Onboarded string `json:"onboarded"`
	Turn      int64  `json:"turn"`
}

// next is the first fence that wasn't taken yet; nil after the last one.
func (f *fences) next(ctx context.Context) (*listedFence, error) {
	if len(f.page) == 0 && !f.end {
		var out struct {
			Fences []listedFence `json:"fences"`
		}
		url := fmt.Sprintf("%s/internal/fences?after=%d&limit=%d", f.info.Internal, f.after, fencesAtOnce)
		if _, err := f.service.internal.Call(ctx, http.MethodGet, url, nil, &out); err != nil {
			return nil, relayRegion(err, f.info.Code)
		}
		for _, one := range out.Fences {
			if one.Company <= f.after {
				return nil, problem.New(problem.RegionUnavailable, "Region %s doesn't list its fences in the order of companies.", f.info.Code)
			}
			f.after = one.Company
		}
		f.page, f.end = out.Fences, len(out.Fences) < fencesAtOnce
	}
	if len(f.page) == 0 {
		return nil, nil //nolint:nilnil // there are no more
	}
	return &f.page[0], nil
}

// survey is all that is known of all companies: the directory's census beside the fences.
type survey struct {
	service *Service
	e       *Environment
	census  *directory.Census
	regions []*fences // those that answer
	foreign map[company.Region]bool
	silent  []SilentRegion
}

func (s *Service) survey(ctx context.Context, e *Environment) (*survey, error) {
	census, err := e.Registry.Census(ctx)
	if err != nil {
		return nil, err
	}
	infos, err := e.Regions.Regions(ctx)
	if err != nil {
		return nil, err
	}
	v := &survey{service: s, e: e, census: census, foreign: map[company.Region]bool{}}
	for _, info := range infos {
		if info.Internal == "" {
			v.foreign[info.Code] = true
		} else {
			v.regions = append(v.regions, &fences{service: s, info: info})
		}
	}
	v.ask(ctx)
	return v, context.Cause(ctx)
}

// each tells of every company, in the order of ids, with how many of the directory's have
// been passed.
func (v *survey) each(ctx context.Context, tell func(at *standing, passed int) error) error {
	for i := 0; ; {
		lowest := company.ID(0)
		if i < v.census.Len() {
			lowest = v.census.At(i).Company
		}
		for _, r := range v.regions {
			f, err := r.next(ctx)
			if err != nil {
				return err
			}
			if f != nil && (lowest == 0 || f.Company < lowest) {
				lowest = f.Company
			}
		}
		if lowest == 0 {
			return nil
		}
		at := &standing{company: lowest, foreign: v.foreign, silent: v.silent}
		if i < v.census.Len() && v.census.At(i).Company == lowest {
			p := v.census.At(i)
			at.placed = &p
			i++
		}
		for _, r := range v.regions {
			if len(r.page) > 0 && r.page[0].Company == lowest {
				at.fences = append(at.fences, RegionFence{r.info.Code, r.page[0].Fence, r.page[0].Onboarded, r.page[0].Turn})
				r.page = r.page[1:]
			}
		}
		if err := tell(at, i); err != nil {
			return err
		}
	}
}

const (
	// looksAgain is how often a difference is looked at before it is told: a company that is
	// made or moves just now differs for a moment.
	looksAgain = 3
	lookPause  = 100 * time.Millisecond
)

// again looks at a company anew. It answers the directory's revision as well.
func (v *survey) again(ctx context.Context, id company.ID) (at *standing, revision uint64, err error) {
	at = &standing{company: id, foreign: v.foreign, silent: v.silent}
	p, revision, err := v.e.Placements.Get(ctx, id)
	switch {
	case err == nil:
		at.placed = &p
	case !errors.Is(err, problem.New(problem.NotFound, "")):
		return nil, 0, err
	}
	for _, r := range v.regions {
		one := &fences{service: v.service, info: r.info, after: id - 1}
		f, err := one.next(ctx)
		if err != nil {
			return nil, 0, err
		}
		if f != nil && f.Company == id {
			at.fences = append(at.fences, RegionFence{r.info.Code, f.Fence, f.Onboarded, f.Turn})
		}
	}
	return at, revision, nil
}

// lasting looks at a difference again, and answers it where it lasts.
func (v *survey) lasting(ctx context.Context, id company.ID) (d *Difference, err error) {
	for range looksAgain {
		at, _, err := v.again(ctx, id)
		if err != nil {
			return nil, err
		}
		if d, _ = at.judge(); d == nil || at.unsure() {
			return nil, nil //nolint:nilnil // it was passing
		}
		wait := time.NewTimer(lookPause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, context.Cause(ctx)
		case <-wait.C:
		}
	}
	return d, nil
}
