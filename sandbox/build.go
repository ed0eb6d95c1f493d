package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"mpr/company"
	"mpr/intercom"
	"mpr/problem"
)

// The phases of a refresh.
const (
	phasePrepare   = "preparing"
	phaseCompanies = "copying companies"
	phaseIdentity  = "copying users and apps"
	phaseIndex     = "waiting for the index"
	phaseDone      = "done"
)

// build is a generation in the making.
type build struct {
	*Refresher
	to         *intercom.Caller // of processes of the sandbox, about the generation
	generation int
	directory  Directory
	entered    chan struct{} // a phase, of which the beat tells at once

	mu    sync.Mutex
	so    Progress // guarded by mu
	byKey map[company.Region]company.RegionInfo
	// copied are the companies that are there.
	copied map[company.ID]copied
}

// GenerationHeader names, on calls of internal listeners, the generation that a call is
// for; without it a call is for the one that serves.
const GenerationHeader = "Mpr-Generation"

func (r *Refresher) newBuild(generation int) *build {
	return &build{Refresher: r, generation: generation, entered: make(chan struct{}, 1), to: r.from.With(GenerationHeader, strconv.Itoa(generation))}
}

// copied is a company that was copied.
type copied struct {
	placement company.Placement
	version   int64 // that the index must reach to show it
}

func (b *build) note(f func(*Progress)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.so)
}

func (b *build) progress() Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.so
	p.Skipped = slices.Clone(p.Skipped)
	return p
}

// make makes the generation. The identity comes after the companies, so that it has
// everybody who became a member meanwhile.
func (b *build) make(ctx context.Context) error {
	for _, step := range []struct {
		phase string
		do    func(context.Context) error
	}{
		{phasePrepare, b.prepare},
		{phaseCompanies, b.companies},
		{phaseIdentity, b.identity},
		{phaseIndex, b.place},
	} {
		b.note(func(p *Progress) { p.Phase = step.phase })
		select {
		case b.entered <- struct{}{}:
		default: // the beat is about to tell
		}
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.phase, err)
		}
	}
	return nil
}

// prepareWait is how long the processes of the sandbox may take to open a generation.
const prepareWait = 2 * time.Minute

// prepare registers the regions and waits until they, and the login service, have opened
// the generation.
func (b *build) prepare(ctx context.Context) error {
	s, _, err := b.read(ctx)
	if err != nil {
		return err
	}
	if b.directory, err = b.Begin(ctx, s.Serving, b.generation); err != nil {
		return err
	}
	regions, err := b.To.Directory.Regions(ctx)
	if err != nil {
		return err
	}
	ready := []string{b.To.IdentityURL + "/internal/keys"}
	b.byKey = map[company.Region]company.RegionInfo{}
	for _, info := range regions {
		if err := b.directory.PutRegion(ctx, info); err != nil {
			return err
		}
		if info.Internal != "" {
			b.byKey[info.Code] = info
			ready = append(ready, info.Internal+"/internal/status")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, prepareWait)
	defer cancel()
	for _, url := range ready {
		if err := b.awaitOpen(ctx, url); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) awaitOpen(ctx context.Context, url string) error {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := b.to.Call(ctx, http.MethodGet, url, nil, nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all processes of %s have opened generation %d: %w", b.To.Name, b.generation, err)
		case <-again.C:
		}
	}
}

// passes is how often the lists are read again for companies that moved or were added
// while others were copied.
const passes = 5

// companies copies one company after the other: the original answers one read at a time.
func (b *build) companies(ctx context.Context) error {
	b.copied = map[company.ID]copied{}
	seen := map[company.ID]bool{}
	for range passes {
		list, err := b.wanted(ctx)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(w Wanted) bool { return seen[w.Company] })
		if len(list) == 0 {
			break
		}
		b.note(func(p *Progress) { p.Companies += len(list) })
		for _, w := range list {
			seen[w.Company] = true
			if err := b.copyCompany(ctx, w); err != nil {
				return fmt.Errorf("company %d: %w", w.Company, err)
			}
		}
	}
	return b.ids(ctx)
}

// Wanted is a company whose administrator wants a copy.
type Wanted struct {
	Company company.ID     `json:"id"`
	Name    string         `json:"name"`
	Region  company.Region `json:"region"`
	// Rows counts its rows, where it was asked for.
	Rows int64 `json:"rows"`

	internal string // of the region
}

// wanted lists them, of all regions of ours.
func (r *Refresher) wanted(ctx context.Context) (list []Wanted, err error) {
	regions, err := r.From.Directory.Regions(ctx)
	if err != nil {
		return nil, err
	}
	for _, info := range regions {
		if info.Internal == "" {
			continue // a foreign service stands in for it
		}
		for after := company.ID(0); ; {
			url := info.Internal + "/internal/monthly_sandbox"
			if after > 0 {
				url += "?after=" + after.String()
			}
			var page struct {
				Companies []Wanted `json:"companies"`
			}
			if _, err := r.from.Call(ctx, http.MethodGet, url, nil, &page); err != nil {
				return nil, fmt.Errorf("list the companies of %s: %w", info.Code, err)
			}
			if len(page.Companies) == 0 {
				break
			}
			for _, w := range page.Companies {
				w.Region, w.internal, after = info.Code, info.Internal, w.Company
				list = append(list, w)
			}
		}
	}
	return list, nil
}

// Plan says what a refresh would copy, with the rows of each company.
func (r *Refresher) Plan(ctx context.Context) ([]Wanted, error) {
	list, err := r.wanted(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		var counted struct {
			Rows map[string]int64 `json:"rows"`
		}
		if _, err := r.from.Call(ctx, http.MethodGet, list[i].internal+"/internal/companies/"+list[i].Company.String()+"/rows", nil, &counted); err != nil {
			return nil, fmt.Errorf("count the rows of company %d: %w", list[i].Company, err)
		}
		for _, n := range counted.Rows {
			list[i].Rows += n
		}
	}
	return list, nil
}

// copyAttempts is how often a company is tried to be copied: it may move meanwhile, and
// connections break.
const copyAttempts = 3

func (b *build) copyCompany(ctx context.Context, w Wanted) error {
	for attempt := 1; ; attempt++ {
		err := b.copyOnce(ctx, w.Company)
		var no *cannot
		switch {
		case err == nil:
			return nil
		case errors.As(err, &no):
			b.note(func(p *Progress) {
				if len(p.Skipped) < maxSkipped {
					p.Skipped = append(p.Skipped, Skipped{w.Company, no.reason})
				}
			})
			return nil
		case attempt == copyAttempts || ctx.Err() != nil:
			return err
		}
	}
}

// maxSkipped bounds how many are told of.
const maxSkipped = 100

// cannot says that there can be no copy of a company.
type cannot struct{ reason string }

func (c *cannot) Error() string { return c.reason }

// copyOnce copies a company from where it lives to the region of the same code.
func (b *build) copyOnce(ctx context.Context, id company.ID) error {
	p, _, err := b.From.Directory.Get(ctx, id)
	if errors.Is(err, problem.New(problem.NotFound, "")) {
		return &cannot{"it has no placement"}
	}
	if err != nil {
		return err
	}
	from, err := region(ctx, b.From.Directory, p.Region)
	if err != nil {
		return err
	}
	to, ok := b.byKey[p.Region]
	if !ok || from.Internal == "" {
		return &cannot{fmt.Sprintf("%s has no region %s of its own", b.To.Name, p.Region)}
	}
	path := "/internal/companies/" + id.String() + "/snapshot"
	var loaded struct {
		Epoch   company.Epoch    `json:"epoch"`
		Version int64            `json:"version"`
		Rows    map[string]int64 `json:"rows"`
	}
	if err := intercom.Pass(ctx, b.from, from.Internal+path, b.to, to.Internal+path+"?state=owned&announce=1", &loaded); err != nil {
		return err
	}
	p.Epoch = loaded.Epoch
	b.copied[id] = copied{p, loaded.Version}
	b.note(func(p *Progress) {
		p.Copied++
		for _, n := range loaded.Rows {
			p.Rows += n
		}
	})
	return nil
}

func region(ctx context.Context, d Directory, code company.Region) (company.RegionInfo, error) {
	all, err := d.Regions(ctx)
	if err != nil {
		return company.RegionInfo{}, err
	}
	for _, info := range all {
		if info.Code == code {
			return info, nil
		}
	}
	return company.RegionInfo{}, fmt.Errorf("there is no region %s", code)
}

// lastID is the last id that a region has given out.
type lastID struct {
	Last int64 `json:"last"`
}

// ids has the sandbox's regions give out ids that the original's haven't given out.
func (b *build) ids(ctx context.Context) error {
	regions, err := b.From.Directory.Regions(ctx)
	if err != nil {
		return err
	}
	for _, from := range regions {
		to, ok := b.byKey[from.Code]
		if !ok || from.Internal == "" {
			continue
		}
		var ids lastID
		if _, err := b.from.Call(ctx, http.MethodGet, from.Internal+"/internal/ids", nil, &ids); err != nil {
			return err
		}
		if ids.Last == 0 {
			continue // the default region has given out none
		}
		if _, err := b.to.Call(ctx, http.MethodPut, to.Internal+"/internal/ids", ids, nil); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) identity(ctx context.Context) error {
	const path = "/internal/identity"
	var loaded struct {
		Rows map[string]int64 `json:"rows"`
	}
	if err := intercom.Pass(ctx, b.from, b.From.IdentityURL+path, b.to, b.To.IdentityURL+path, &loaded); err != nil {
		return err
	}
	b.note(func(p *Progress) { p.Users, p.Apps = loaded.Rows["users"], loaded.Rows["apps"] })
	return nil
}

// indexWait bounds the waiting for the index, over all companies.
const indexWait = 10 * time.Minute

// place records where the companies live, and waits until List Companies shows them.
func (b *build) place(ctx context.Context) error {
	_, err := b.directory.Load(ctx, func(yield func(company.Placement) bool) {
		for _, c := range b.copied {
			if !yield(c.placement) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	for id, c := range b.copied {
		for {
			status, err := b.to.Call(ctx, http.MethodGet, fmt.Sprintf("%s/internal/index/%d?version=%d&wait_ms=10000", b.To.IdentityURL, id, c.version), nil, nil)
			if err != nil {
				return err
			}
			if status == http.StatusOK {
				break
			}
		}
	}
	return nil
}
