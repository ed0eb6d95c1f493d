package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"mpr/problem"
)

// Campaign is the part of the policy that an operator changes while the system runs, to
// bring everybody who still uses the legacy door to make the required changes in time.
type Campaign struct {
	// RegionsLive is the first day (UTC) on which new companies need the required
	// changes.
	RegionsLive time.Time
	// LegacySunset is the last day (UTC) on which the legacy door works.
	LegacySunset time.Time
	// AllowNewInDefault lets the legacy door reach companies that became customers after
	// the regions went live, as long as they live in the default region. The seed's table
	// is of two minds: its rows for new customers and for system integrators refuse all
	// new customers, its row for technology partners only "new Procore users who are
	// placed in a region other than US01".
	AllowNewInDefault bool
	// Brownouts are planned windows in which the legacy door refuses.
	Brownouts []Brownout
	// Rehearsals let single apps live after the sunset for a while.
	Rehearsals []Rehearsal
}

// Brownout is a window in which the legacy door refuses calls, so that those who would
// otherwise hear of the sunset on the day after it hear of it now.
type Brownout struct {
	// Name tells brownouts apart.
	Name string `json:"name"`
	// From and To bound the window; To isn't part of it.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Apps are the client ids that the brownout is for; none at all for every app.
	Apps []string `json:"apps,omitempty"`
	// Share is how many of the calls are refused, above 0 and up to 1.
	Share float64 `json:"share"`
	// Authentication extends the brownout to /oauth/*. Some client libraries answer any
	// error there by spending a refresh token, which works only once.
	Authentication bool `json:"authentication"`
	// Paused suspends the brownout.
	Paused bool `json:"paused"`
}

// Rehearsal is a time in which one app finds the legacy door as it will be after the
// sunset.
type Rehearsal struct {
	App string `json:"app"` // its client id
	// From may be zero, for a rehearsal that begins at once.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to"`
}

// What a campaign may hold. Every gateway looks through it on each call at the legacy door.
const (
	maxBrownouts   = 100
	maxRehearsals  = 1000
	maxBrownedApps = 1000
	maxName        = 100
)

// Check says what is wrong with a campaign, for each field by the name that it has in
// JSON; nothing where all is well.
func (c *Campaign) Check() map[string][]string {
	wrong := map[string][]string{}
	add := func(field, format string, args ...any) {
		wrong[field] = append(wrong[field], fmt.Sprintf(format, args...))
	}
	if c.LegacySunset.Before(c.RegionsLive) {
		add("legacy_sunset", "is before regions_live")
	}
	if len(c.Brownouts) > maxBrownouts {
		add("brownouts", "are more than %d", maxBrownouts)
	}
	if len(c.Rehearsals) > maxRehearsals {
		add("rehearsals", "are more than %d", maxRehearsals)
	}
	names := map[string]bool{}
	for i, b := range c.Brownouts {
		at := fmt.Sprintf("brownouts[%d]", i)
		if strings.TrimSpace(b.Name) == "" || len(b.Name) > maxName || strings.ContainsFunc(b.Name, unicode.IsControl) {
			add(at+".name", "must be one line of 1 to %d characters", maxName)
		}
		if names[b.Name] {
			add(at+".name", "is the name of another brownout")
		}
		names[b.Name] = true
		if !b.From.Before(b.To) {
			add(at+".to", "must be after from")
		}
		if !(b.Share > 0 && b.Share <= 1) {
			add(at+".share", "must be above 0 and at most 1")
		}
		if len(b.Apps) > maxBrownedApps || slices.Contains(b.Apps, "") {
			add(at+".apps", "must be client ids, at most %d", maxBrownedApps)
		}
	}
	for i, r := range c.Rehearsals {
		at := fmt.Sprintf("rehearsals[%d]", i)
		if r.App == "" {
			add(at+".app", "must be a client id")
		}
		if !r.From.Before(r.To) {
			add(at+".to", "must be after from")
		}
	}
	return wrong
}

// horizonYears is how many years ahead the dates of a campaign may be.
const horizonYears = 10

// Untimely says which dates that weren't there before are a mistake: brownouts and rehearsals that are
// over at that time, which would never do anything, and whatever is more than ten years ahead. It
// answers what is wrong by field, as Check.
func (c *Campaign) Untimely(before *Campaign, now time.Time) map[string][]string {
	wrong := map[string][]string{}
	look := func(field string, at time.Time, mayBeOver bool) {
		switch {
		case at.After(now.AddDate(horizonYears, 0, 0)):
			wrong[field] = []string{fmt.Sprintf("is more than %d years ahead", horizonYears)}
		case !mayBeOver && !now.Before(at):
			wrong[field] = []string{"is over already: it is " + now.UTC().Format(time.RFC3339)}
		}
	}
	if !c.RegionsLive.Equal(before.RegionsLive) {
		look("regions_live", c.RegionsLive, true)
	}
	if !c.LegacySunset.Equal(before.LegacySunset) {
		look("legacy_sunset", c.LegacySunset, true)
	}
	for i, b := range c.Brownouts {
		if !slices.ContainsFunc(before.Brownouts, func(o Brownout) bool { return o.Name == b.Name && o.To.Equal(b.To) }) {
			look(fmt.Sprintf("brownouts[%d].to", i), b.To, false)
		}
	}
	for i, r := range c.Rehearsals {
		if !slices.ContainsFunc(before.Rehearsals, func(o Rehearsal) bool { return o.App == r.App && o.To.Equal(r.To) }) {
			look(fmt.Sprintf("rehearsals[%d].to", i), r.To, false)
		}
	}
	return wrong
}

// Gone says whether the legacy door's last day is over at that time. The day itself still
// works.
func (c *Campaign) Gone(now time.Time) bool { return !now.Before(c.SunsetAt()) }

// SunsetAt is when the legacy door closes: the end of its last day.
func (c *Campaign) SunsetAt() time.Time { return c.LegacySunset.AddDate(0, 0, 1) }

// rehearsal finds the rehearsal that an app is in.
func (c *Campaign) rehearsal(app string, now time.Time) (Rehearsal, bool) {
	for _, r := range c.Rehearsals {
		if r.App == app && app != "" && within(now, r.From, r.To) {
			return r, true
		}
	}
	return Rehearsal{}, false
}

// brownout finds the brownout that refuses a call. lot, from 0 up to but not 1, decides
// where only a share of the calls is refused.
func (c *Campaign) brownout(app string, lot float64, authentication bool, now time.Time) (Brownout, bool) {
	for _, b := range c.Brownouts {
		if !b.Paused && within(now, b.From, b.To) && lot < b.Share && (b.Authentication || !authentication) &&
			(len(b.Apps) == 0 || slices.Contains(b.Apps, app)) {
			return b, true
		}
	}
	return Brownout{}, false
}

func within(now, from, to time.Time) bool { return !now.Before(from) && now.Before(to) }

// closed says why the legacy door doesn't serve a call whoever it is for; nil if it does.
func (p *Policy) closed(app string, lot float64, authentication bool, now time.Time) *problem.Problem {
	if p.Gone(now) {
		// "non-compliant applications will continue to function as expected for existing
		// Procore Customers until June 30, 2019"
		return p.legacyGone()
	}
	if r, ok := p.rehearsal(app, now); ok {
		return p.legacyRehearsed(r)
	}
	if b, ok := p.brownout(app, lot, authentication, now); ok {
		return p.legacyBrownout(b, now)
	}
	return nil
}

// ClosedToAll says why the legacy door serves no call whatsoever at that time, so that those
// who come without a valid token hear of it too; nil where it serves some.
func (p *Policy) ClosedToAll(now time.Time) *problem.Problem {
	return p.closed("", math.Nextafter(1, 0), false, now)
}

// Authentication is what the rules need to know about a request for authentication.
type Authentication struct {
	Door Door
	// ClientID is the app that the request names; empty where it names none.
	ClientID string
	// Lot is drawn for the request: from 0 up to but not 1.
	Lot float64
	Now time.Time
}

// DecideAuthentication says why a request to /oauth/* is refused; nil if it goes through.
func (p *Policy) DecideAuthentication(a Authentication) *problem.Problem {
	if a.Door != DoorLegacy {
		return nil
	}
	return p.closed(a.ClientID, a.Lot, true, a.Now)
}

// campaignJSON is a campaign as JSON, with days as days.
type campaignJSON struct {
	RegionsLive       string      `json:"regions_live"`
	LegacySunset      string      `json:"legacy_sunset"`
	AllowNewInDefault bool        `json:"allow_new_in_default_region"`
	Brownouts         []Brownout  `json:"brownouts"`
	Rehearsals        []Rehearsal `json:"rehearsals"`
}

// MarshalJSON writes days as 2018-10-31.
func (c Campaign) MarshalJSON() ([]byte, error) {
	return json.Marshal(campaignJSON{
		RegionsLive: c.RegionsLive.Format(time.DateOnly), LegacySunset: c.LegacySunset.Format(time.DateOnly),
		AllowNewInDefault: c.AllowNewInDefault, Brownouts: orNone(c.Brownouts), Rehearsals: orNone(c.Rehearsals),
	})
}

// UnmarshalJSON reads what MarshalJSON writes. Fields that it doesn't know are left out:
// those of a newer version.
func (c *Campaign) UnmarshalJSON(data []byte) error {
	var j campaignJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	return j.campaign(c)
}

// ParseCampaign reads a campaign that somebody wants to set: strictly, since a field that
// is misspelt must not look like one that was left out.
func ParseCampaign(data []byte) (*Campaign, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var j campaignJSON
	if err := dec.Decode(&j); err != nil {
		return nil, err
	}
	c := new(Campaign)
	return c, j.campaign(c)
}

func (j *campaignJSON) campaign(c *Campaign) error {
	live, err := time.Parse(time.DateOnly, j.RegionsLive)
	if err != nil {
		return fmt.Errorf("regions_live must be a day such as 2018-10-31: %w", err)
	}
	sunset, err := time.Parse(time.DateOnly, j.LegacySunset)
	if err != nil {
		return fmt.Errorf("legacy_sunset must be a day such as 2019-06-30: %w", err)
	}
	*c = Campaign{RegionsLive: live, LegacySunset: sunset, AllowNewInDefault: j.AllowNewInDefault, Brownouts: j.Brownouts, Rehearsals: j.Rehearsals}
	return nil
}

// orNone makes an empty list of nothing, for JSON.
func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
