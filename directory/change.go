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
}
