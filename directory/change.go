package directory

import (
	"encoding/json"

	"mpr/company"
)

// The kinds of changes that feed the global index.
const (
	// ChangeCompany: a company was made or renamed. Key is the company's id; Data is
	// {"name": "..."}.
	ChangeCompany = "company"
	// ChangeMembership: a user joined or left a company. Key is the user's id; Data is
	// {"login": "...", "name": "..."}.
	ChangeMembership = "membership"
	// ChangeInstallation: an app was connected to a company or disconnected. Key is the
	// app's id; Data is {"kind": "..."}.
	ChangeInstallation = "installation"
	// ChangeLost: a region was restored from a backup, in which the ids after Company, up to Key,
	// weren't given out yet. What is known of them from before Version is over.
	ChangeLost = "lost"
)

// Change is one change of a company's data that the global index wants to know. It
// arrives at least once; Version orders the changes of a company and makes applying
// them idempotent.
type Change struct {
	Company company.ID `json:"company"`
	// Version counts the changes of the company's data, from 1, across moves.
	Version int64           `json:"version"`
	Kind    string          `json:"kind"`
	Key     int64           `json:"key"`
	Deleted bool            `json:"deleted,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	// Since, of [ChangeCompany], says that what is known of the company from before this version
	// is over, its members and apps included; 0 for nothing of it.
	Since int64 `json:"since,omitempty"`
}
