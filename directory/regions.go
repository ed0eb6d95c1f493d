package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
	"mpr/problem"
)

// PutRegion records a region, or new addresses of one that is there. A code has one number
// and a number one code, for ever, since numbers stand in ids: what contradicts that is
// [problem.Conflict]. Of two control processes that give one number to two codes at the same
// time, the second one hears of the first. A region that is there is drained as before.
func (d *Directory) PutRegion(ctx context.Context, r company.RegionInfo) error {
	return d.changeRegion(ctx, func(list []company.RegionInfo) (company.RegionInfo, error) {
		if i := slices.IndexFunc(list, func(other company.RegionInfo) bool { return other.Code == r.Code }); i >= 0 {
			r.Draining = list[i].Draining
		}
		return r, fits(r, list)
	})
}

// DrainRegion closes a region to new companies, or opens it again, and answers its record;
// [problem.NotFound] where there is none.
func (d *Directory) DrainRegion(ctx context.Context, code company.Region, draining bool) (r company.RegionInfo, err error) {
	err = d.changeRegion(ctx, func(list []company.RegionInfo) (company.RegionInfo, error) {
		i := slices.IndexFunc(list, func(other company.RegionInfo) bool { return other.Code == code })
		if i < 0 {
			return r, problem.New(problem.NotFound, "There is no region %s.", code)
		}
		r = list[i]
		r.Draining = draining
		return r, nil
	})
	return r, err
}

// changeRegion writes the record that change makes of those that are there; once more where
// somebody has changed them meanwhile.
func (d *Directory) changeRegion(ctx context.Context, change func([]company.RegionInfo) (company.RegionInfo, error)) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for {
		list, revision, err := d.readRegions(ctx)
		if err != nil {
			return err
		}
		r, err := change(list)
		if err != nil {
			return err
		}
		value, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("put region: %w", err)
		}
		// Not the revision of the key, but of the whole bucket: another key may have taken the
		// number since.
		_, err = d.js.Publish(ctx, "$KV."+d.regions.Bucket()+"."+string(r.Code), value, jetstream.WithExpectLastSequence(revision))
		if !wrongSequence(err) {
			return Unavailable(err)
		}
		if err := Pause(ctx, createRetry); err != nil { // what was read may lag behind for a moment
			return Unavailable(err)
		}
	}
}

// fits says whether a region can stand beside the others.
func fits(r company.RegionInfo, others []company.RegionInfo) error {
	for _, other := range others {
		switch {
		case other.Code == r.Code && other.Number != r.Number:
			return problem.New(problem.Conflict, "The region %s has the number %d, which stands in the ids it made and never changes.", r.Code, other.Number)
		case other.Code != r.Code && other.Number == r.Number:
			return problem.New(problem.Conflict, "The number %d is that of the region %s. Choose one that no region has had.", r.Number, other.Code)
		}
	}
	return nil
}

// wrongSequence says whether the server has refused a write because of what it expected to
// find.
func wrongSequence(err error) bool {
	var refusal *jetstream.APIError
	return errors.As(err, &refusal) && (refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) // the one that replicated buckets answer
}

// Regions lists the regions by number.
func (d *Directory) Regions(ctx context.Context) ([]company.RegionInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	list, _, err := d.readRegions(ctx)
	return list, err
}

// readRegions lists the regions by number, and answers the revision of the newest record.
func (d *Directory) readRegions(ctx context.Context) (list []company.RegionInfo, revision uint64, err error) {
	err = each(ctx, d.regions, func(entry jetstream.KeyValueEntry) error {
		revision = max(revision, entry.Revision())
		if entry.Operation() != jetstream.KeyValuePut {
			return nil
		}
		var r company.RegionInfo
		if err := json.Unmarshal(entry.Value(), &r); err != nil {
			return fmt.Errorf("read region %s: %w", entry.Key(), err)
		}
		list = append(list, r)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(list, func(a, b company.RegionInfo) int { return a.Number - b.Number })
	return list, revision, nil
}
