package directory

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
)

// Census is all placements of an environment as the buckets have them, by company, some
// 30 bytes each. A replica remembers what the buckets may have lost; a census doesn't.
type Census struct {
	ids     []company.ID
	packed  *table
	regions []company.Region
}

// Census reads all placements.
func (d *Directory) Census(ctx context.Context) (*Census, error) {
	c := &Census{packed: newTable(0)}
	if err := each(ctx, d.placements, c.add, jetstream.IgnoreDeletes()); err != nil {
		return nil, err
	}
	slices.Sort(c.ids)
	return c, nil
}

func (c *Census) add(entry jetstream.KeyValueEntry) error {
	p, err := readPlacement(entry.Value())
	if err != nil {
		return err
	}
	if p.Company.String() != entry.Key() {
		return fmt.Errorf("read placement: the record of %q is that of company %d", entry.Key(), p.Company)
	}
	i := slices.Index(c.regions, p.Region)
	if i < 0 {
		i = len(c.regions)
		if c.regions = append(c.regions, p.Region); len(c.regions) > maxRegions {
			return fmt.Errorf("read placements: there are more than %d regions", maxRegions)
		}
	}
	if p.Company <= 0 || p.Epoch < 1 || p.Epoch > maxEpoch {
		return fmt.Errorf("read placement: that of company %d is none", p.Company)
	}
	if c.packed.get(p.Company) == 0 { // one that changes meanwhile comes twice
		c.ids = append(c.ids, p.Company)
	}
	for !c.packed.put(p.Company, pack(p, i)) {
		c.packed = c.packed.grown()
	}
	return nil
}

// Len is how many placements there are.
func (c *Census) Len() int { return len(c.ids) }

// At is the placement with this number, in the order of companies. It tells no turn.
func (c *Census) At(i int) company.Placement {
	v := c.packed.get(c.ids[i])
	return company.Placement{Company: c.ids[i], Region: c.regions[packedRegion(v)], Epoch: packedEpoch(v), Onboarded: packedDay(v)}
}
