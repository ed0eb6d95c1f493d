package control

import (
	"context"
	"time"

	"mpr/company"
	"mpr/move"
)

// Stay is a time that a company lived in a region.
type Stay struct {
	Region company.Region `json:"region"`
	// Epoch is the one that the stay began with. A move that was given up after its change-over had
	// begun raised it since.
	Epoch company.Epoch `json:"epoch"`
	// Since is when the company came, the zero time where that isn't known; Until is when it left,
	// the zero time where it is there.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Move is the id of the move that brought it; "" where it was made there, or came before moves
	// were kept.
	Move string `json:"move,omitempty"`
}

// stays are where a company lived, the newest first, as far as its moves are known.
func (s *Service) stays(ctx context.Context, e *Environment, p company.Placement) ([]Stay, error) {
	moves, err := s.moves.OfCompany(ctx, e.Name, p.Company)
	if err != nil {
		return nil, err
	}
	var list []Stay // the oldest first
	for _, m := range moves {
		if m.Committed.IsZero() || m.Phase == move.Aborted {
			continue
		}
		if len(list) == 0 {
			list = append(list, Stay{Region: m.From, Epoch: 1})
		}
		list[len(list)-1].Until = m.Committed
		list = append(list, Stay{Region: m.To, Epoch: m.Epoch + 1, Since: m.Committed, Move: m.ID})
	}
	if len(list) == 0 {
		list = append(list, Stay{Region: p.Region, Epoch: p.Epoch})
	}
	last := &list[len(list)-1]
	if last.Region != p.Region { // a rebuild of the directory, say, has placed it elsewhere
		last.Until = time.Time{}
		list = append(list, Stay{Region: p.Region, Epoch: p.Epoch})
	}
	list = list[max(0, len(list)-staysShown):]
	newest := make([]Stay, len(list))
	for i, one := range list {
		newest[len(list)-1-i] = one
	}
	return newest, nil
}

const staysShown = 100
