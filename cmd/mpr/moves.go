package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/control"
	"mpr/problem"
)

// Commands that queue many moves at once. The queue has a limit of moves at the same time for
// each region, so nothing is the worse for a long one.

type regionDrainCommand struct {
	author
	schedule
	Region string   `arg:"" help:"The region to empty, such as US02."`
	To     []string `required:"" placeholder:"REGIONS" help:"Where its companies go, in turn, such as US01,EU01."`
}

func (c *regionDrainCommand) Run(ctx context.Context, t *terminal) error {
	if _, err := company.ParseRegion(c.Region); err != nil {
		return wrongUsage("%v", err)
	}
	for _, to := range c.To {
		if _, err := company.ParseRegion(to); err != nil {
			return wrongUsage("--to: %v", err)
		}
		if to == c.Region {
			return wrongUsage("--to: %s is the region to empty", to)
		}
	}
	if _, err := c.request(&c.author); err != nil { // before the region is closed
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := checkTargets(ctx, client, c.To); err != nil {
		return err
	}
	note := ""
	if !c.DryRun { // before its companies are listed, so that none is made after that
		if _, err := client.DrainRegion(ctx, company.Region(c.Region), true); err != nil {
			return err
		}
		note = fmt.Sprintf("Region %s takes no new companies until you open it: mpr region open %s%s", c.Region, c.Region, c.environmentFlag())
	}
	var list []wantedMove
	for query := (control.CompanyQuery{Region: company.Region(c.Region), PerPage: 1000}); ; {
		page, err := client.Companies(ctx, query)
		if err != nil {
			return err
		}
		for _, one := range page.Companies {
			list = append(list, wantedMove{one.ID, company.Region(c.To[len(list)%len(c.To)])})
		}
		if query.After = page.Next; page.Next == 0 {
			break
		}
	}
	return c.startAll(ctx, t, &c.author, client, list, note, fmt.Sprintf("mpr region drain %s --to %s", c.Region, strings.Join(c.To, ",")))
}

// checkTargets wants regions that are there and take companies.
func checkTargets(ctx context.Context, client *control.Client, to []string) error {
	known, err := client.Regions(ctx)
	if err != nil {
		return err
	}
	for _, code := range to {
		i := slices.IndexFunc(known, func(r company.RegionInfo) bool { return string(r.Code) == code })
		if i < 0 {
			return wrongUsage("there is no region %s: see `mpr region list`", code)
		}
		if known[i].Draining {
			return wrongUsage("region %s is being drained itself: see `mpr region open %s`", code, code)
		}
	}
	return nil
}

type movePlanCommand struct {
	author
	schedule
	File string `arg:"" help:"A file with a company and a region in each line, such as 598134325510145,US01 (- for standard input)."`
}

func (c *movePlanCommand) Run(ctx context.Context, t *terminal) error {
	in := io.Reader(os.Stdin)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	list, err := readPlan(in)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	targets := make([]string, len(list))
	for i, one := range list {
		targets[i] = string(one.To)
	}
	if err := checkTargets(ctx, client, targets); err != nil {
		return err
	}
	again := ""
	if c.File != "-" {
		again = fmt.Sprintf("mpr move plan %q", c.File)
	}
	return c.startAll(ctx, t, &c.author, client, list, "", again)
}

// wantedMove is a line of a plan.
type wantedMove struct {
	Company company.ID
	To      company.Region
}

// maxPlan bounds the moves of a plan.
const maxPlan = 100_000

// readPlan reads a company and a region from each line, with a comma or blanks between them.
// Empty lines, what follows a # and a first line with names of columns are left out. Nothing is
// done where a line is wrong.
func readPlan(in io.Reader) ([]wantedMove, error) {
	var list []wantedMove
	at := map[company.ID]int{}
	lines := bufio.NewScanner(in)
	n := 1
	for ; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.FieldsFunc(strings.TrimPrefix(text, "\ufeff"), func(r rune) bool { return strings.ContainsRune(", ;\t\r", r) })
		if len(words) == 0 || len(list) == 0 && strings.EqualFold(words[0], "company") {
			continue
		}
		if len(words) != 2 {
			return nil, fmt.Errorf("line %d: expected a company and a region, such as 598134325510145,US01", n)
		}
		id, err := company.ParseID(words[0])
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is %w", n, words[0], err)
		}
		to, err := company.ParseRegion(words[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if at[id] != 0 {
			return nil, fmt.Errorf("line %d: company %d is in line %d already", n, id, at[id])
		}
		at[id] = n
		if list = append(list, wantedMove{id, to}); len(list) > maxPlan {
			return nil, fmt.Errorf("there are more than %d moves", maxPlan)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d is too long: expected a company and a region, such as 598134325510145,US01", n)
	} else if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New("there are no moves in it")
	}
	return list, nil
}

// leftOut is a company that isn't moved, and why.
type leftOut struct {
	Company company.ID `json:"company"`
	Why     string     `json:"why"`
}

// startAll queues moves, or says what they would do. Companies that are moving or live there
// already, and ones that are gone, are left out, so that the command can be repeated. note is for
// people to read, again the command that does what was only tried, without its schedule.
func (s *schedule) startAll(ctx context.Context, t *terminal, m *author, client *control.Client, list []wantedMove, note, again string) error {
	out := struct {
		Queued  []control.Move     `json:"queued,omitempty"`
		Plans   []control.MovePlan `json:"plans,omitempty"`
		LeftOut []leftOut          `json:"left_out"`
	}{LeftOut: []leftOut{}}
	in, err := s.request(m)
	if err != nil {
		return err
	}
	for i, one := range list {
		if !m.JSON {
			t.progress(fmt.Sprintf("%d of %d companies", i, len(list)))
		}
		in.Company, in.To = one.Company, one.To
		var err error
		if s.DryRun {
			var plan control.MovePlan
			if plan, err = client.PlanMove(ctx, in); err == nil {
				out.Plans = append(out.Plans, plan)
			}
		} else {
			var begun control.Move
			if begun, err = client.StartMove(ctx, in); err == nil {
				out.Queued = append(out.Queued, begun)
			}
		}
		var p *problem.Problem
		switch {
		case err == nil:
		case errors.As(err, &p) && (p.Code == problem.Conflict || p.Code == problem.NotFound):
			out.LeftOut = append(out.LeftOut, leftOut{one.Company, p.Message})
		default:
			return fmt.Errorf("%w\n%d of %d moves are queued and go on. Repeat the command: it leaves out what is queued", err, len(out.Queued), len(list))
		}
	}
	if !m.JSON {
		t.progress("")
	}
	return t.answer(m.JSON, out, func(w io.Writer) {
		if s.DryRun {
			showPlans(w, out.Plans)
		} else {
			_, _ = fmt.Fprintf(w, "%d moves are queued. They go on without you.\n", len(out.Queued))
			if note != "" {
				_, _ = fmt.Fprintln(w, note)
			}
		}
		if len(out.LeftOut) > 0 {
			rows := make([][]string, len(out.LeftOut))
			for i, l := range out.LeftOut {
				rows[i] = []string{l.Company.String(), l.Why}
			}
			_, _ = fmt.Fprintln(w)
			table(w, []string{"LEFT OUT", "WHY"}, rows)
		}
		if len(out.Queued) > 0 {
			next(w, "mpr move list --active%s", m.environmentFlag())
		} else if len(out.Plans) > 0 && again != "" {
			next(w, "%s%s%s%s", again, s.flags(), m.byFlag(), m.environmentFlag())
		}
	})
}

func showPlans(w io.Writer, plans []control.MovePlan) {
	rows := make([][]string, len(plans))
	total, seconds := int64(0), 0.0
	needs, room := map[company.Region]int64{}, map[company.Region]*int64{}
	for i, p := range plans {
		way := "-"
		if len(p.Obstacles) > 0 {
			way = strings.Join(p.Obstacles, " ")
		}
		rows[i] = []string{p.Company.String(), string(p.From), string(p.To), strconv.FormatInt(p.Total, 10), control.Size(p.Bytes), strconv.Itoa(len(p.Breaking)), way}
		total, seconds = total+p.Total, seconds+p.Seconds
		needs[p.To] += p.Bytes
		room[p.To] = p.Room
	}
	table(w, []string{"COMPANY", "FROM", "TO", "ROWS", "TAKES", "APPS THAT BREAK", "IN THE WAY"}, rows)
	_, _ = fmt.Fprintf(w, "\n%d companies would move, %d rows, copied in about %s one after the other.\n", len(plans), total,
		time.Duration(seconds*float64(time.Second)).Round(time.Millisecond))
	for _, to := range slices.Sorted(maps.Keys(needs)) {
		_, _ = fmt.Fprintf(w, "They need about %s at %s, where %s.\n", control.Size(needs[to]), to, roomThere(room[to]))
		if room[to] != nil && *room[to] < needs[to] {
			_, _ = fmt.Fprintf(w, "IN THE WAY: %s has no room for all of them. The moves wait for it.\n", to)
		}
	}
}
