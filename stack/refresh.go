package stack

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"mpr/company"
	"mpr/config"
	"mpr/control"
	"mpr/directory"
	"mpr/problem"
	"mpr/sandbox"
)

// servedDirectory is the directory of the edition that serves.
type servedDirectory struct{ served *served }

func (d servedDirectory) open(ctx context.Context) (*directory.Directory, error) {
	return d.served.edition().dir(ctx)
}

func (d servedDirectory) Create(ctx context.Context, p company.Placement) error {
	now, err := d.open(ctx)
	if err != nil {
		return err
	}
	return now.Create(ctx, p)
}

func (d servedDirectory) Get(ctx context.Context, id company.ID) (company.Placement, uint64, error) {
	now, err := d.open(ctx)
	if err != nil {
		return company.Placement{}, 0, err
	}
	return now.Get(ctx, id)
}

func (d servedDirectory) Load(ctx context.Context, placements iter.Seq[company.Placement]) (int, error) {
	now, err := d.open(ctx)
	if err != nil {
		return 0, err
	}
	return now.Load(ctx, placements)
}

// TellIndex makes the stream anew that the regions feed the index by: they notice it.
func (d servedDirectory) TellIndex(ctx context.Context) error {
	system := d.served.system
	return directory.OpenChanges(system.nats, d.served.edition().buckets, system.config.Directory.Replicas).Remake(ctx)
}

func (d servedDirectory) PutRegion(ctx context.Context, info company.RegionInfo) error {
	now, err := d.open(ctx)
	if err != nil {
		return err
	}
	return now.PutRegion(ctx, info)
}

func (d servedDirectory) DrainRegion(ctx context.Context, code company.Region, draining bool) (company.RegionInfo, error) {
	now, err := d.open(ctx)
	if err != nil {
		return company.RegionInfo{}, err
	}
	return now.DrainRegion(ctx, code, draining)
}

func (d servedDirectory) Regions(ctx context.Context) ([]company.RegionInfo, error) {
	now, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	return now.Regions(ctx)
}

func (d servedDirectory) Policy(ctx context.Context) (directory.PolicyRecord, error) {
	now, err := d.open(ctx)
	if err != nil {
		return directory.PolicyRecord{}, err
	}
	return now.Policy(ctx)
}

func (d servedDirectory) SetPolicy(ctx context.Context, r directory.PolicyRecord, revision uint64) (directory.PolicyRecord, error) {
	now, err := d.open(ctx)
	if err != nil {
		return directory.PolicyRecord{}, err
	}
	return now.SetPolicy(ctx, r, revision)
}

func (d servedDirectory) PolicyHistory(ctx context.Context) ([]directory.PolicyRecord, error) {
	now, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	return now.PolicyHistory(ctx)
}

func (d servedDirectory) Update(ctx context.Context, p company.Placement, revision uint64) (uint64, error) {
	now, err := d.open(ctx)
	if err != nil {
		return 0, err
	}
	return now.Update(ctx, p, revision)
}

func (d servedDirectory) Gateways(ctx context.Context) ([]string, error) {
	now, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	return now.Gateways(ctx)
}

func (d servedDirectory) Signs(ctx context.Context) ([]directory.Sign, error) {
	now, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	return now.Signs(ctx)
}

func (d servedDirectory) Hold(ctx context.Context, h directory.Hold) (<-chan string, func(), error) {
	now, err := d.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	return now.Hold(ctx, h)
}

func (d servedDirectory) Release(ctx context.Context, move string, p company.Placement) error {
	now, err := d.open(ctx)
	if err != nil {
		return err
	}
	return now.Release(ctx, move, p)
}

// Census reads the buckets. Those that were lost, and the records of the regions, are made anew.
func (d servedDirectory) Census(ctx context.Context) (*directory.Census, error) {
	ed := d.served.edition()
	now, err := directory.Open(ctx, ed.system.nats, ed.buckets, ed.system.config.Directory.Replicas)
	if err != nil {
		return nil, err
	}
	regions, err := now.Regions(ctx)
	if err == nil && len(regions) == 0 {
		err = ed.system.registerRegions(ctx, now, d.served.environment)
	}
	if err != nil {
		return nil, err
	}
	return now.Census(ctx)
}

// Companies counts those in the replica.
func (d servedDirectory) Companies() map[company.Region]int {
	return d.served.edition().replica.Companies()
}

// Placement answers from the replica.
func (d servedDirectory) Placement(id company.ID) (company.Placement, bool) {
	return d.served.edition().replica.Placement(id)
}

// Page answers from the replica.
func (d servedDirectory) Page(after company.ID, limit int, region company.Region) []company.Placement {
	return d.served.edition().replica.Page(after, limit, region)
}

// knownToControl is an environment that the control role knows and serves no door of.
func (s *system) knownToControl(ctx context.Context, e *config.Environment) (*served, error) {
	s.mu.Lock()
	v := s.served[e.Name]
	s.mu.Unlock()
	if v == nil {
		var err error
		// All other roles wait for the directory to be made.
		v, err = s.serveEnvironment(ctx, e, RoleControl, makeDirectory)
		if err != nil {
			return nil, err
		}
	}
	// Lists come from the replica: half of them would look like all.
	if err := v.edition().replica.Ready(ctx); err != nil {
		return nil, fmt.Errorf("wait for the directory: %w", err)
	}
	return v, nil
}

// makeDirectory waits for the directory's servers, which may start later than this process, and
// makes what isn't there.
func makeDirectory(ctx context.Context, ed *edition) error {
	return patiently(ctx, func() error {
		_, err := ed.dir(ctx)
		return err
	})
}

// refreshSandboxes starts the refreshes of monthly sandboxes.
func (s *system) refreshSandboxes(ctx context.Context, environments map[string]*control.Environment) error {
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		from := environments[e.SandboxOf]
		if e.Sandbox != config.SandboxMonthly || from == nil {
			continue
		}
		record, err := directory.OpenRecord(ctx, s.nats, generationsBucket, recordKey(e), s.config.Directory.Replicas)
		if err != nil {
			return err
		}
		v := s.served[e.Name]
		refresher, err := sandbox.New(ctx, sandbox.Options{
			From:   sandbox.Environment{Name: from.Name, Directory: servedDirectory{s.served[from.Name]}, IdentityURL: from.IdentityURL},
			To:     sandbox.Environment{Name: e.Name, Directory: servedDirectory{v}, IdentityURL: environments[e.Name].IdentityURL},
			Record: record, Begin: v.begin, Secret: s.secret, Transport: s.transport, Now: s.now,
		})
		if err != nil {
			return err
		}
		s.add(refresher)
		from.Monthly = refresher
	}
	return nil
}

// begin opens the directory of a generation that is to be made, with the policy of the
// one that serves. Buckets of other generations are forgotten.
func (v *served) begin(ctx context.Context, serving, building int) (sandbox.Directory, error) {
	s, e := v.system, v.environment
	prefix := strings.TrimPrefix(directory.BucketName("", generationPrefix(e)), "_")
	err := directory.Forget(ctx, s.nats, func(environment string) bool {
		text, ok := strings.CutPrefix(environment, prefix)
		n, err := strconv.Atoi(text)
		return ok && err == nil && !slices.Contains([]int{serving, building}, n)
	})
	if err != nil {
		return nil, err
	}
	d, err := directory.Open(ctx, s.nats, bucketsOf(e, building), s.config.Directory.Replicas)
	if err != nil {
		return nil, err
	}
	policy, err := servedDirectory{v}.Policy(ctx)
	if err == nil && policy.Revision != 0 {
		policy.PlannedIn = nil // a revision of the other bucket
		_, err = d.SetPolicy(ctx, policy, 0)
	}
	if err != nil && !errors.Is(err, problem.New(problem.Conflict, "")) {
		return nil, err
	}
	return d, nil
}
