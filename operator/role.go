package operator

import "mpr/problem"

// Role is what a person who has signed in may do. The zero value may do nothing.
type Role string

// The roles, each of which may do all that those before it may.
const (
	// Developer is everybody who can sign in: it isn't granted. It is for what developers may
	// see of their own apps.
	Developer Role = "developer"
	// Viewer sees everything but secrets.
	Viewer Role = "viewer"
	// Operator runs the system: companies, users, apps, moves, policy, limits, sandboxes.
	Operator Role = "operator"
	// Admin also changes who may do that, where regions are, keys and the directory.
	Admin Role = "admin"
)

var ranks = map[Role]int{Developer: 1, Viewer: 2, Operator: 3, Admin: 4}

// Covers says whether the role may do what needs at least that one. Nobody may do what needs a
// role that isn't one.
func (r Role) Covers(least Role) bool { return ranks[least] > 0 && ranks[r] >= ranks[least] }

// ParseRole reads a role that can be granted.
func ParseRole(text string) (Role, error) {
	r := Role(text)
	if !r.Covers(Viewer) {
		p := problem.New(problem.Invalid, "%q is not a role that can be granted: there are viewer, operator and admin.", text)
		p.Fields = map[string][]string{"role": {"must be viewer, operator or admin"}}
		return "", p
	}
	return r, nil
}
