package console

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mpr/control"
	"mpr/problem"
	"mpr/rules"
)

// policyView is the policy in force.
type policyView struct {
	control.Policy
	Calendar calendar
	// Dated is who has set the dates and brownouts in force, and when; rehearsals have changed since,
	// as the case may be. Nil where nobody did, or too long ago.
	Dated *dated
}

type dated struct {
	By string
	At time.Time
}

var policyPage = page{template: "policy", load: func(q *request) (shown, error) {
	p, err := q.client.Policy(q.ctx(), true)
	if err != nil {
		return shown{}, err
	}
	first := p.Now.UTC()
	if text := q.r.URL.Query().Get("month"); text != "" {
		if first, err = time.Parse(monthLayout, text); err != nil {
			return shown{}, problem.New(problem.BadRequest, "%.20q is no month such as 2019-04.", text)
		}
	}
	v := policyView{Policy: p, Calendar: calendarOf(&p, first)}
	for i := range p.History {
		if p.History[i].Revision == p.Planned() {
			v.Dated = &dated{p.History[i].By, p.History[i].At}
		}
	}
	return shown{title: "Policy", nav: "policy", data: &v}, nil
}}

const monthLayout = "2006-01"

// setDates changes the dates, unless somebody else has changed the policy since the form was loaded.
func setDates(q *request) (string, error) {
	seen, err := q.number("revision")
	if err != nil {
		return "", err
	}
	now, err := q.client.Policy(q.ctx(), false)
	if err != nil {
		return "", err
	}
	if !now.Seen(uint64(seen)) { //nolint:gosec // one that is negative is none that there is
		return "", q.overtaken("Somebody else has changed the dates or brownouts since you loaded the page. The form below has what is in force now, and what you had typed stands beside it: change it again if you still want to.")
	}
	c := now.Campaign
	for field, at := range map[string]*time.Time{"regions_live": &c.RegionsLive, "legacy_sunset": &c.LegacySunset} {
		if *at, err = time.Parse(time.DateOnly, q.r.PostFormValue(field)); err != nil {
			return "", badField(field, "must be a day such as 2019-06-30")
		}
	}
	c.AllowNewInDefault = q.r.PostFormValue("allow_new") != ""
	_, err = q.client.SetPolicy(q.ctx(), control.NewPolicy{Campaign: &c, Revision: now.Revision, Note: q.r.PostFormValue("note")})
	if errors.Is(err, problem.New(problem.Conflict, "")) {
		err = q.overtaken(problem.From(err).Message)
	}
	return q.at.Path() + "/policy?done=policy", shortFields(err)
}

// addBrownout plans a brownout.
func addBrownout(q *request) (string, error) {
	b := rules.Brownout{Name: strings.TrimSpace(q.r.PostFormValue("name")), Apps: lines(q.r.PostFormValue("apps")), Authentication: q.r.PostFormValue("authentication") != ""}
	share, err := q.percent("share")
	if err == nil {
		b.From, err = q.moment("from")
	}
	if err == nil {
		b.To, err = q.moment("to")
	}
	if err != nil {
		return "", err
	}
	b.Share = float64(share) / 100
	_, err = q.client.ChangePolicy(q.ctx(), "", q.r.PostFormValue("note"), func(c *rules.Campaign) error {
		c.Brownouts = append(c.Brownouts, b)
		return nil
	})
	return q.at.Path() + "/policy?done=policy", shortFields(err)
}

// changeBrownout pauses, resumes or removes a brownout.
func changeBrownout(q *request) (string, error) {
	name := q.r.PostFormValue("name")
	verb, err := q.verb("pause", "resume", "remove")
	if err != nil {
		return "", err
	}
	_, err = q.client.ChangePolicy(q.ctx(), "", verb+" "+name, func(c *rules.Campaign) error {
		i := slices.IndexFunc(c.Brownouts, func(b rules.Brownout) bool { return b.Name == name })
		switch {
		case i < 0:
			return problem.New(problem.NotFound, "There is no brownout %q any more.", name)
		case verb == "remove":
			c.Brownouts = slices.Delete(c.Brownouts, i, i+1)
		default:
			c.Brownouts[i].Paused = verb == "pause"
		}
		return nil
	})
	return q.at.Path() + "/policy?done=policy", err
}

// calendar shows brownouts and the sunset by their days.
type calendar struct {
	Width, Height int
	Months        []month
	Summary       string
	// Earlier and Later are the months that those before and after begin with.
	Earlier, Later string
}

type month struct {
	Name string
	X    int
	Days []calendarDay
}

type calendarDay struct {
	X, Y, Number  int
	Class, Label  string
	Brown, Paused bool
	End           bool
}

const (
	calendarMonths = 4
	cell           = 32
	monthWidth     = 7*cell + 26
)

// calendarOf draws months from the one of a day on. Their weeks begin on Mondays.
func calendarOf(p *control.Policy, from time.Time) calendar {
	first := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC)
	c := calendar{Width: calendarMonths*monthWidth - 26, Earlier: first.AddDate(0, -calendarMonths, 0).Format(monthLayout), Later: first.AddDate(0, calendarMonths, 0).Format(monthLayout)}
	days, weeks := 0, 0
	for i := range calendarMonths {
		begin := first.AddDate(0, i, 0)
		m := month{Name: begin.Format("January 2006"), X: i * monthWidth}
		offset := (int(begin.Weekday()) + 6) % 7
		for day := begin; day.Month() == begin.Month(); day = day.AddDate(0, 0, 1) {
			at := offset + day.Day() - 1
			weeks = max(weeks, at/7+1)
			d := calendarDayOf(p, day)
			d.X, d.Y = m.X+at%7*cell, 40+at/7*cell
			if d.Brown {
				days++
			}
			m.Days = append(m.Days, d)
		}
		c.Months = append(c.Months, m)
	}
	c.Height = 40 + weeks*cell
	c.Summary = fmt.Sprintf("From %s, for %d months: %s with a brownout. The last day of the legacy door is %s.", first.Format("January 2006"), calendarMonths, plural(days, "day", "days"), p.Campaign.LegacySunset.Format(time.DateOnly))
	return c
}

// calendarDayOf says what is on a day.
func calendarDayOf(p *control.Policy, day time.Time) calendarDay {
	d := calendarDay{Number: day.Day(), Label: day.Format(time.DateOnly)}
	switch today := p.Now.UTC().Truncate(24 * time.Hour); {
	case day.Equal(today):
		d.Class = "today"
	case day.Before(today):
		d.Class = "past"
	}
	for _, b := range p.Campaign.Brownouts {
		if b.From.Before(day.AddDate(0, 0, 1)) && b.To.After(day) {
			d.Paused = b.Paused && (d.Paused || !d.Brown)
			d.Brown = true
			d.Label += ", brownout " + b.Name
		}
	}
	if d.End = day.Equal(p.Campaign.LegacySunset); d.End {
		d.Label += ", the last day of the legacy door"
	}
	return d
}
