package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"mpr/directory"
	"mpr/problem"
	"mpr/rules"
)

// NewRehearsal asks to have an app find the legacy door as it will be after the sunset.
type NewRehearsal struct {
	// From is when it begins; at once where it is the zero time.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to"`
	By   string    `json:"by"`
	Note string    `json:"note,omitempty"`
}

// longestOwnRehearsal bounds the rehearsals that developers begin by themselves: one that is
// forgotten must end.
const longestOwnRehearsal = 7 * 24 * time.Hour

// policyTries is how often a change is made again where somebody else was quicker.
const policyTries = 5

// rehearse has an app rehearse, in place of the rehearsals that it has.
func (s *Service) rehearse(r *http.Request, e *Environment) (int, any, error) {
	var in NewRehearsal
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	begins := in.From
	if now := s.now(); begins.Before(now) {
		begins = now
	}
	switch {
	case !in.From.IsZero() && s.now().Sub(in.From) > time.Minute: // forms know minutes
		return 0, nil, invalid("from", "is over already; leave it out to begin at once")
	case in.To.IsZero():
		return 0, nil, invalid("to", "must say when the rehearsal ends")
	case askedBy(r).owner && in.To.Sub(begins) > longestOwnRehearsal:
		return 0, nil, invalid("to", "is more than seven days after it begins; ask an operator for longer")
	}
	return s.changeRehearsals(r, e, in.By, in.Note, func(c *rules.Campaign, clientID string) {
		c.Rehearsals = append(c.Rehearsals, rules.Rehearsal{App: clientID, From: in.From.UTC(), To: in.To.UTC()})
	})
}

// endRehearsal ends an app's rehearsals now.
func (s *Service) endRehearsal(r *http.Request, e *Environment) (int, any, error) {
	return s.changeRehearsals(r, e, r.URL.Query().Get("by"), r.URL.Query().Get("note"), func(*rules.Campaign, string) {})
}

// changeRehearsals takes an app's rehearsals out of the campaign in force, with all that are over, and
// puts others in.
func (s *Service) changeRehearsals(r *http.Request, e *Environment, who, note string, add func(*rules.Campaign, string)) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	who = by(r, who)
	for try := 1; ; try++ {
		record, err := e.campaign(r.Context())
		if err != nil {
			return 0, nil, err
		}
		c := record.Campaign
		c.Rehearsals = slices.DeleteFunc(slices.Clone(c.Rehearsals), func(one rules.Rehearsal) bool {
			return one.App == app.ClientID || !s.now().Before(one.To)
		})
		add(&c, app.ClientID)
		planned := record.Planned() // whoever changes dates meanwhile has seen them still
		status, out, err := s.putPolicy(r, e, record, directory.PolicyRecord{Campaign: c, By: who, Note: note, PlannedIn: &planned}, planned)
		if errors.Is(err, problem.New(problem.Conflict, "")) && e.HasLegacyDoor && try < policyTries {
			continue
		}
		if set, ok := out.(Policy); ok && askedBy(r).owner {
			set.Campaign = campaignOf(set.Campaign, app.ClientID) // other apps are none of theirs
			out = set
		}
		return status, out, err
	}
}

// campaign is the campaign in force: the configuration's, where nobody has set one.
func (e *Environment) campaign(ctx context.Context) (directory.PolicyRecord, error) {
	record, err := e.Policies.Policy(ctx)
	if err == nil && record.Revision == 0 {
		record.Campaign = e.Campaign
	}
	return record, err
}

// Rehearse has an app rehearse.
func (c *Client) Rehearse(ctx context.Context, app string, in NewRehearsal) (out Policy, err error) {
	err = c.do(ctx, http.MethodPut, "/apps/"+segment(app)+"/rehearsal", in, &out)
	return out, err
}

// EndRehearsal ends an app's rehearsals.
func (c *Client) EndRehearsal(ctx context.Context, app, by, note string) (out Policy, err error) {
	err = c.do(ctx, http.MethodDelete, "/apps/"+segment(app)+"/rehearsal?"+url.Values{"by": {by}, "note": {note}}.Encode(), nil, &out)
	return out, err
}

// ChangePolicy reads the campaign in force, changes it, and puts it in force, unless somebody else
// did so in between; then again.
func (c *Client) ChangePolicy(ctx context.Context, by, note string, change func(*rules.Campaign) error) (Policy, error) {
	for try := 1; ; try++ {
		now, err := c.Policy(ctx, false)
		if err != nil {
			return now, err
		}
		if err := change(&now.Campaign); err != nil {
			return now, err
		}
		set, err := c.SetPolicy(ctx, NewPolicy{Campaign: &now.Campaign, Revision: now.Revision, By: by, Note: note})
		if errors.Is(err, problem.New(problem.Conflict, "")) && try < policyTries {
			continue
		}
		return set, err
	}
}
