package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mpr/directory"
	"mpr/problem"
	"mpr/rules"
)

// Policies keep the campaign of an environment, and who changed it when.
type Policies interface {
	Policy(context.Context) (directory.PolicyRecord, error)
	// SetPolicy answers [problem.Conflict] where the record in force is of another
	// revision.
	SetPolicy(ctx context.Context, r directory.PolicyRecord, revision uint64) (directory.PolicyRecord, error)
	PolicyHistory(context.Context) ([]directory.PolicyRecord, error)
}

// Policy is the campaign in force and what was in force before.
type Policy struct {
	directory.PolicyRecord
	// History lists the campaigns that were set, the newest first. The configuration's,
	// which is in force until one is set, isn't among them.
	History []directory.PolicyRecord `json:"history,omitempty"`
	// Now is the time by which the rules decide.
	Now time.Time `json:"now"`
	// HasLegacyDoor says whether there is anything that the campaign changes.
	HasLegacyDoor bool `json:"has_legacy_door"`
}

// PolicyChange is what the audit log keeps of a campaign before and after a change.
type PolicyChange struct {
	Revision uint64          `json:"revision"`
	Campaign *rules.Campaign `json:"campaign"`
	Note     string          `json:"note,omitempty"`
}

// NewPolicy asks for a campaign in place of the one of a revision.
type NewPolicy struct {
	Campaign *rules.Campaign `json:"campaign"`
	// Revision is that of the campaign that was looked at: where dates or brownouts have changed since,
	// it is refused.
	Revision uint64 `json:"revision"`
	By       string `json:"by"`
	Note     string `json:"note,omitempty"`
}

func (s *Service) showPolicy(r *http.Request, e *Environment) (int, any, error) {
	record, err := e.campaign(r.Context())
	if err != nil {
		return 0, nil, err
	}
	p := Policy{PolicyRecord: record, Now: s.now().UTC(), HasLegacyDoor: e.HasLegacyDoor}
	if r.URL.Query().Get("history") == "true" {
		if p.History, err = e.Policies.PolicyHistory(r.Context()); err != nil {
			return 0, nil, err
		}
	}
	return http.StatusOK, p, nil
}

func (s *Service) setPolicy(r *http.Request, e *Environment) (int, any, error) {
	var in struct {
		NewPolicy
		Campaign json.RawMessage `json:"campaign"`
	}
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	campaign, err := rules.ParseCampaign(in.Campaign)
	if err != nil {
		return 0, nil, invalid("campaign", err.Error())
	}
	in.By, in.NewPolicy.Campaign = by(r, in.By), campaign
	sent := campaign.Rehearsals
	for try := 1; ; try++ {
		before, err := e.campaign(r.Context())
		if err != nil {
			return 0, nil, err
		}
		if err := e.leavesRehearsals(r.Context(), sent, before, in.Revision); err != nil {
			return 0, nil, err
		}
		campaign.Rehearsals = before.Campaign.Rehearsals
		status, out, err := s.putPolicy(r, e, before, directory.PolicyRecord{Campaign: *campaign, By: in.By, Note: in.Note}, in.Revision)
		if errors.Is(err, problem.New(problem.Conflict, "")) && before.Seen(in.Revision) && e.HasLegacyDoor && try < policyTries {
			continue // a rehearsal has begun or ended in between; whether it was more, the next look tells
		}
		return status, out, err
	}
}

// leavesRehearsals refuses other rehearsals than those that were seen: each app's are set by itself,
// and those in force stay, whatever has become of them since somebody looked.
func (e *Environment) leavesRehearsals(ctx context.Context, sent []rules.Rehearsal, now directory.PolicyRecord, revision uint64) error {
	if sent == nil || slices.EqualFunc(sent, now.Campaign.Rehearsals, sameRehearsal) {
		return nil
	}
	seen := []directory.PolicyRecord{{Campaign: e.Campaign}}
	if revision != 0 {
		var err error
		if seen, err = e.Policies.PolicyHistory(ctx); err != nil {
			return err
		}
	}
	i := slices.IndexFunc(seen, func(r directory.PolicyRecord) bool { return r.Revision == revision })
	if i < 0 || slices.EqualFunc(sent, seen[i].Campaign.Rehearsals, sameRehearsal) { // it may be too long ago
		return nil
	}
	return invalid("rehearsals", "can't be changed here: leave them as they are, and begin or end each at its app (apps/{app}/rehearsal)")
}

func sameRehearsal(a, b rules.Rehearsal) bool {
	return a.App == b.App && a.From.Equal(b.From) && a.To.Equal(b.To)
}

// putPolicy checks a campaign and puts it in force in place of the one before, whose dates and
// brownouts must be those of a revision that was seen.
func (s *Service) putPolicy(r *http.Request, e *Environment, before, in directory.PolicyRecord, seen uint64) (int, any, error) {
	if !e.HasLegacyDoor {
		return 0, nil, problem.New(problem.Conflict, "The environment %s has no legacy door: dates, brownouts and rehearsals would change nothing there.", e.Name)
	}
	wrong := in.Campaign.Check()
	for field, why := range in.Campaign.Untimely(&before.Campaign, s.now()) {
		wrong[field] = append(wrong[field], why...)
	}
	for name, text := range map[string]string{"by": in.By, "note": in.Note} {
		if !isLine(text) {
			wrong[name] = []string{"must be one line of at most 500 bytes"}
		}
	}
	if strings.TrimSpace(in.By) == "" {
		wrong["by"] = []string{"must say who changes the policy"}
	}
	if err := s.unknownApps(r.Context(), e, &before.Campaign, &in.Campaign, wrong); err != nil {
		return 0, nil, err
	}
	if len(wrong) > 0 {
		p := problem.New(problem.Invalid, "The policy can't be set: some fields are wrong.")
		p.Fields = wrong
		return 0, nil, p
	}
	if !before.Seen(seen) {
		return 0, nil, problem.New(problem.Conflict, "Somebody else has changed the dates or brownouts meanwhile. Look at them and repeat.")
	}
	noted(r).Before = PolicyChange{before.Revision, &before.Campaign, before.Note}
	in.At = s.now().UTC()
	record, err := e.Policies.SetPolicy(r.Context(), in, before.Revision)
	if err != nil {
		return 0, nil, err
	}
	noted(r).After = PolicyChange{record.Revision, &record.Campaign, record.Note}
	return http.StatusOK, Policy{PolicyRecord: record, Now: s.now().UTC(), HasLegacyDoor: e.HasLegacyDoor}, nil
}

// unknownNamed is how many apps that aren't there a refusal names.
const unknownNamed = 20

// unknownApps says which brownouts are for apps that aren't there: they would spare those that are
// meant. Apps that a brownout had before aren't asked for, so that it can be paused while the login
// service is away.
func (s *Service) unknownApps(ctx context.Context, e *Environment, before, after *rules.Campaign, wrong map[string][]string) error {
	known := map[string]bool{}
	for _, b := range before.Brownouts {
		for _, id := range b.Apps {
			known[id] = true
		}
	}
	var ask []string
	for _, b := range after.Brownouts {
		for _, id := range b.Apps {
			if _, asked := known[id]; asked {
				continue
			}
			if known[id] = false; isName(id) {
				ask = append(ask, id)
			}
		}
	}
	for part := range slices.Chunk(ask, namesAtOnce) {
		var found AppPage
		if err := s.identity(ctx, e, http.MethodGet, "/internal/apps?client_ids="+url.QueryEscape(strings.Join(part, ",")), nil, &found); err != nil {
			return err
		}
		for _, app := range found.Apps {
			known[app.ClientID] = true
		}
	}
	named := 0
	for i, b := range after.Brownouts {
		at := fmt.Sprintf("brownouts[%d].apps", i)
		for _, id := range b.Apps {
			if !known[id] && id != "" && named < unknownNamed {
				named++
				wrong[at] = append(wrong[at], fmt.Sprintf("there is no app with the client id %.100q in %s", id, e.Name))
			}
		}
	}
	return nil
}

const maxPolicyText = 500

// isLine says whether a text is one line that isn't too long.
func isLine(text string) bool {
	return utf8.ValidString(text) && len(text) <= maxPolicyText && !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' })
}
