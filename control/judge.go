package control

import (
	"fmt"
	"slices"
	"time"

	"mpr/company"
)

// The kinds of differences between the directory and the fences of the regions.
const (
	// DiffMissing: a region owns the company, and the directory doesn't know it.
	DiffMissing = "missing"
	// DiffNowhere: the directory knows the company, and no region owns it.
	DiffNowhere = "nowhere"
	// DiffElsewhere: another region owns the company than the directory says.
	DiffElsewhere = "elsewhere"
	// DiffEpoch: the region owns the company at another epoch than the directory says.
	DiffEpoch = "epoch"
	// DiffTwice: more than one region owns the company.
	DiffTwice = "twice"
	// DiffLost: regions say that the company went elsewhere, and it is nowhere.
	DiffLost = "lost"
)

// RegionFence is what a region notes of a company.
type RegionFence struct {
	Region company.Region `json:"region"`
	Fence
	Onboarded string `json:"onboarded,omitempty"`
	Turn      int64  `json:"-"`
}

// Where says where a company lives.
type Where struct {
	Region company.Region `json:"region"`
	Epoch  company.Epoch  `json:"epoch"`
}

// Difference is a disagreement about one company.
type Difference struct {
	Company   company.ID    `json:"company"`
	Kind      string        `json:"kind"`
	Directory *Where        `json:"directory"`
	Fences    []RegionFence `json:"fences"`
	// Should is the placement that the fences ask for; nil where they ask for none.
	Should *Where `json:"should,omitempty"`
	// Mended says what a rebuild has done about it: "made", "raised", or what kept it from.
	Mended string `json:"mended,omitempty"`
}

// states of fences, as regions name them.
const (
	stateOwned  = "owned"
	stateFrozen = "frozen"
	stateGone   = "gone"
)

// standing is all that is known of where a company lives.
type standing struct {
	company company.ID
	placed  *company.Placement // by the directory
	fences  []RegionFence
	foreign map[company.Region]bool // regions that can't be asked
	silent  []SilentRegion          // regions that don't answer
}

// due is the placement that the fences ask for. The highest epoch at which a region owns the
// company counts; where none does, that of a fence that is frozen, in the middle of a move: its
// mover takes it from there, or gives up under a newer epoch. Where all say that it has gone to
// a region that can't be asked, it is there. sure is false where two regions have one epoch.
func (s *standing) due() (p *company.Placement, sure bool) {
	var best *RegionFence
	sure = true
	for _, state := range []string{stateOwned, stateFrozen} {
		for i := range s.fences {
			f := &s.fences[i]
			if f.State != state {
				continue
			}
			if best != nil && best.Epoch == f.Epoch {
				sure = false
			}
			if best == nil || f.Epoch > best.Epoch {
				best, sure = f, true
			}
		}
		if best != nil {
			return s.place(best.Region, best.Epoch), sure
		}
	}
	for i := range s.fences {
		if f := &s.fences[i]; f.State == stateGone && s.foreign[f.GoneRegion] && (best == nil || f.GoneEpoch > best.GoneEpoch) {
			best = f
		}
	}
	if best == nil {
		return nil, true
	}
	return s.place(best.GoneRegion, best.GoneEpoch), true
}

// place makes a placement with what the fences know besides. Whoever has acted on the company
// last has the highest turn, and an earlier one must stay replaced.
func (s *standing) place(region company.Region, epoch company.Epoch) *company.Placement {
	p := &company.Placement{Company: s.company, Region: region, Epoch: epoch}
	for _, f := range s.fences {
		p.Turn = max(p.Turn, f.Turn)
		if day, err := time.Parse(time.DateOnly, f.Onboarded); err == nil && (p.Onboarded.IsZero() || f.Region == region) {
			p.Onboarded = day
		}
	}
	return p
}

// judge answers where directory and fences differ; nil where they agree. moving says that the
// company is changing over just now, which is no difference.
func (s *standing) judge() (d *Difference, moving bool) {
	owners, frozen := 0, false
	for _, f := range s.fences {
		switch f.State {
		case stateOwned:
			owners++
		case stateFrozen:
			frozen = true
		}
	}
	due, _ := s.due()
	kind := ""
	switch {
	case owners > 1:
		kind = DiffTwice
	case s.placed == nil && due != nil:
		kind = DiffMissing
	case s.placed == nil:
		kind = DiffLost
	case s.foreign[s.placed.Region] || slices.ContainsFunc(s.silent, func(o SilentRegion) bool { return o.Region == s.placed.Region }):
		if due != nil && due.Region != s.placed.Region && due.Epoch >= s.placed.Epoch {
			kind = DiffElsewhere
		}
	case due == nil:
		kind = DiffNowhere
	case owners == 0 && frozen && s.placed.Epoch == due.Epoch+1:
		// The change-over was committed, or undone, and the region doesn't know yet.
	case s.placed.Region != due.Region:
		kind = DiffElsewhere
	case s.placed.Epoch != due.Epoch:
		kind = DiffEpoch
	}
	if kind == "" {
		return nil, frozen
	}
	d = &Difference{Company: s.company, Kind: kind, Fences: s.fences}
	if s.placed != nil {
		d.Directory = &Where{s.placed.Region, s.placed.Epoch}
	}
	if due != nil {
		d.Should = &Where{due.Region, due.Epoch}
	}
	return d, frozen
}

// String says the difference to a person.
func (d Difference) String() string {
	placed := "the directory doesn't know it"
	if d.Directory != nil {
		placed = fmt.Sprintf("the directory says %s at epoch %d", d.Directory.Region, d.Directory.Epoch)
	}
	text := fmt.Sprintf("company %d: %s", d.Company, placed)
	for _, f := range d.Fences {
		switch f.State {
		case stateGone:
			text += fmt.Sprintf("; %s says it went to %s at epoch %d", f.Region, f.GoneRegion, f.GoneEpoch)
		case stateFrozen:
			text += fmt.Sprintf("; %s has frozen it at epoch %d", f.Region, f.Epoch)
		default:
			text += fmt.Sprintf("; %s owns it at epoch %d", f.Region, f.Epoch)
		}
	}
	if len(d.Fences) == 0 {
		text += "; no region knows it"
	}
	return text
}
