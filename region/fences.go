package region

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"mpr/company"
	"mpr/problem"
)

// listedFence is a fence with what a placement is made of.
type listedFence struct {
	Company    company.ID     `json:"company"`
	State      string         `json:"state"`
	Epoch      company.Epoch  `json:"epoch"`
	GoneRegion company.Region `json:"gone_region,omitempty"`
	GoneEpoch  company.Epoch  `json:"gone_epoch,omitempty"`
	// Onboarded is a day, for as long as the company's rows are here; Turn that of the last
	// mover that has acted on the company here.
	Onboarded string `json:"onboarded,omitempty"`
	Turn      int64  `json:"turn,omitempty"`
}

// fencesAtOnce is how many fences an answer lists at the most.
const fencesAtOnce = 1000

// internalFences lists the region's fences by company, from the one after ?after= on, so many
// as ?limit= says: those of companies that left, too.
func (s *Service) internalFences(ctx context.Context, c *call) (_ int, _ any, err error) {
	after, limit := company.ID(0), fencesAtOnce
	query := c.r.URL.Query()
	if text := query.Get("after"); text != "" && text != "0" {
		if after, err = company.ParseID(text); err != nil {
			return 0, nil, problem.New(problem.BadRequest, "The parameter after must be a company's id.").Because(err)
		}
	}
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > fencesAtOnce {
			return 0, nil, problem.New(problem.BadRequest, "The parameter limit must be a number from 1 to %d.", fencesAtOnce)
		}
	}
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT f.company_id, f.state, f.epoch, f.gone_region, f.gone_epoch, COALESCE(c.onboarded, ''), COALESCE(m.turn, 0)
		FROM fence f LEFT JOIN companies c ON c.company_id = f.company_id LEFT JOIN moves m ON m.company_id = f.company_id
		WHERE f.company_id > $1 ORDER BY f.company_id LIMIT $2`, int64(after), limit)
	if err != nil {
		return 0, nil, fmt.Errorf("list fences: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	list := []listedFence{}
	for rows.Next() {
		var f listedFence
		if err := rows.Scan(&f.Company, &f.State, &f.Epoch, &f.GoneRegion, &f.GoneEpoch, &f.Onboarded, &f.Turn); err != nil {
			return 0, nil, fmt.Errorf("list fences: %w", err)
		}
		list = append(list, f)
	}
	return http.StatusOK, map[string]any{"region": s.Code, "fences": list}, rows.Err()
}
