package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/control"
)

type moveCommands struct {
	Start  moveStartCommand  `cmd:"" help:"Move a company to another region, while it is in use."`
	Back   moveBackCommand   `cmd:"" help:"Move a company back to where it came from, with all that was written since."`
	Plan   movePlanCommand   `cmd:"" help:"Queue the moves that a file lists."`
	Status moveStatusCommand `cmd:"" help:"Show how far a move is."`
	List   moveListCommand   `cmd:"" help:"List moves."`
	Pause  movePauseCommand  `cmd:"" help:"Keep a move from going on; the company stays where it is."`
	Resume moveResumeCommand `cmd:"" help:"Have a paused move go on, or (--now) one that apps delay."`
	Abort  moveAbortCommand  `cmd:"" help:"Give a move up, where it hasn't been committed."`
	Proof  moveProofCommand  `cmd:"" help:"Show what moved when, by whose wish, with which checksums, and where copies remain."`
}

// schedule are the flags of commands that start a move.
type schedule struct {
	At     time.Time      `placeholder:"TIME" help:"When the company changes over, at the earliest, such as 2026-01-15T03:00:00Z. The copying begins at once."`
	Window *time.Duration `placeholder:"TIME" help:"How long after --at it may change over, such as 2h; a move that isn't ready by then is given up."`
	Rate   int            `placeholder:"ROWS" help:"How many rows are copied each second at the most."`
	DryRun bool           `help:"Only say what would be moved, how long it would take, and which apps would break."`
}

// request asks for a move whose company is still to be said.
func (s *schedule) request(m *author) (in control.NewMove, err error) {
	if s.Window != nil && s.At.IsZero() {
		return in, wrongUsage("--window needs --at TIME, when it begins")
	}
	if s.Window != nil && *s.Window <= 0 {
		return in, wrongUsage("--window %s: must be longer than nothing, such as 2h", *s.Window)
	}
	if s.Rate < 0 {
		return in, wrongUsage("--rate %d: expected a number of rows a second", s.Rate)
	}
	in.By, in.NotBefore, in.Rate = m.who(), s.At.UTC(), s.Rate
	if s.Window != nil {
		in.NotAfter = s.At.Add(*s.Window).UTC()
		if now := time.Now(); !in.NotAfter.After(now) {
			return in, wrongUsage("--at and --window: it is %s now, and the window ended at %s", now.UTC().Format(time.RFC3339), in.NotAfter.Format(time.RFC3339))
		}
	}
	return in, nil
}

// flags are those that say when and how fast, for a suggested command that does what was only
// tried.
func (s *schedule) flags() string {
	flags := ""
	if !s.At.IsZero() {
		flags += " --at " + s.At.Format(time.RFC3339)
	}
	if s.Window != nil {
		flags += " --window " + s.Window.String()
	}
	if s.Rate != 0 {
		flags += " --rate " + strconv.Itoa(s.Rate)
	}
	return flags
}

// oneMove are the flags of commands that start the move of one company.
type oneMove struct {
	schedule
	Wait bool `help:"Show the progress until the company has changed over."`
}

type moveStartCommand struct {
	author
	oneMove
	Company company.ID `arg:"" help:"The company's id."`
	To      string     `required:"" placeholder:"REGION" help:"The region to move it to."`
}

func (c *moveStartCommand) Run(ctx context.Context, t *terminal) error {
	return c.start(ctx, t, &c.author, c.Company, c.To, false)
}

type moveBackCommand struct {
	author
	oneMove
	Company company.ID `arg:"" help:"The company's id."`
}

func (c *moveBackCommand) Run(ctx context.Context, t *terminal) error {
	return c.start(ctx, t, &c.author, c.Company, "", true)
}

func (s *oneMove) start(ctx context.Context, t *terminal, m *author, id company.ID, to string, back bool) error {
	in, err := s.request(m)
	if err != nil {
		return err
	}
	in.Company, in.To, in.Back = id, company.Region(to), back
	client, err := m.client()
	if err != nil {
		return err
	}
	if s.DryRun {
		plan, err := client.PlanMove(ctx, in)
		if err != nil {
			return err
		}
		again := fmt.Sprintf("mpr move start %d --to %s", plan.Company, plan.To)
		if back {
			again = fmt.Sprintf("mpr move back %d", plan.Company)
		}
		again += s.flags() + " --wait" + m.byFlag() + m.environmentFlag()
		return t.answer(m.JSON, plan, func(w io.Writer) { showMovePlan(w, plan, again) })
	}
	begun, err := client.StartMove(ctx, in)
	if err != nil {
		return err
	}
	if s.Wait {
		return watchMove(ctx, t, client, &begun, false, m.JSON)
	}
	return t.answer(m.JSON, begun, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "Company %d is queued to move from %s to %s. It goes on without you.\n", begun.Company, begun.From, begun.To)
		next(w, "mpr move status %d --wait%s", begun.Company, m.environmentFlag())
	})
}

// showMovePlan tells what a move would do; again is the command that does it.
func showMovePlan(w io.Writer, p control.MovePlan, again string) {
	_, _ = fmt.Fprintf(w, "Company %d would move from %s to %s: %d rows, copied in about %s.\n", p.Company, p.From, p.To, p.Total,
		time.Duration(p.Seconds*float64(time.Second)).Round(time.Millisecond))
	_, _ = fmt.Fprintf(w, "It needs about %s at %s, where %s.\n\n", control.Size(p.Bytes), p.To, roomThere(p.Room))
	tables := make([]string, 0, len(p.Rows))
	for name := range p.Rows {
		tables = append(tables, name)
	}
	slices.Sort(tables)
	rows := make([][]string, len(tables))
	for i, name := range tables {
		rows[i] = []string{name, strconv.FormatInt(p.Rows[name], 10)}
	}
	table(w, []string{"TABLE", "ROWS"}, rows)
	for _, o := range p.Obstacles {
		_, _ = fmt.Fprintf(w, "\nIN THE WAY: %s\n", o)
	}
	if len(p.Breaking) == 0 {
		_, _ = fmt.Fprintln(w, "\nBy the calls of the last 14 days, no app would break.")
	} else {
		_, _ = fmt.Fprintln(w, "\nThese apps would break, by their calls of the last 14 days:")
		for _, a := range p.Breaking {
			name := p.Names[a.ClientID]
			if name == "" {
				name = "-"
			}
			_, _ = fmt.Fprintf(w, "  %s  %s\n", printable([]string{name})[0], a.ClientID)
		}
	}
	if len(p.Obstacles) == 0 {
		next(w, "%s", again)
	}
}

// roomThere says how much room a region has for companies.
func roomThere(room *int64) string {
	if room == nil {
		return "nobody knows how much is free: set max_store_bytes of the region"
	}
	return control.Size(*room) + " are free for companies"
}

func showMove(w io.Writer, m *control.Move) {
	rows, changed := fmt.Sprintf("%d of %d copied, %d changes behind", m.Copied, m.Rows, m.Lag), ""
	if m.Reused {
		rows = "still there from before; only changes were brought"
	}
	if !m.Committed.IsZero() {
		changed = fmt.Sprintf("%s, at version %d; nobody owned the company for %s; %d of %d gateways held its calls", m.Committed.Format(time.RFC3339),
			m.Final, m.Pause.Round(100*time.Microsecond), m.Held, m.Gateways)
	}
	verified := ""
	if m.Verified > 0 {
		verified = fmt.Sprintf("both sides compared at version %d: %d tables are the same", m.Verified, len(m.Checksums))
	}
	phase := string(m.Phase)
	if m.Paused {
		phase += ", paused"
	}
	waits := ""
	if m.Phase == "queued" && !m.Paused && m.Problem == "" {
		waits = "for its turn: a region takes part in a few moves at the same time (see `mpr move list --active`)"
	}
	list(w, "move", m.ID, "company", m.Company.String(), "from", string(m.From), "to", string(m.To), "phase", phase, "waits", waits, "asked for", m.Requested.Format(time.RFC3339)+" by "+m.By,
		"not before", instantOrNone(m.NotBefore), "not after", instantOrNone(m.NotAfter), "delayed", delayed(m), "rows", rows, "verified", verified, "changed over", changed,
		"retained", retained(m), "given up", m.Why, "problem", m.Problem)
}

// delayed says for whom the change-over waits.
func delayed(m *control.Move) string {
	if len(m.Delays) == 0 {
		return ""
	}
	longest := m.Delays[0]
	text := fmt.Sprintf("until %s by app %s (%s)", longest.Until.Format(time.RFC3339), longest.Name, longest.ClientID)
	switch more := len(m.Delays) - 1; {
	case m.Undelayed:
		text += "; an operator has dropped that"
	case more > 0:
		text += fmt.Sprintf(", and for less by %d more", more)
	}
	return text
}

func retained(m *control.Move) string {
	switch {
	case m.RetainedUntil.IsZero():
		return ""
	case m.Purged > 0:
		return fmt.Sprintf("%d rows are deleted at %s", m.Purged, m.From)
	case m.Phase == "done":
		return "no longer by this move: see `mpr move proof " + m.Company.String() + "`"
	}
	return fmt.Sprintf("%s keeps the rows until %s", m.From, m.RetainedUntil.Format(time.RFC3339))
}

func instantOrNone(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.Format(time.RFC3339)
}

// moveName is a move on the command line: its id, or the company's.
type moveName string

// Validate keeps what can't be one from being taken for a path.
func (n moveName) Validate() error {
	if n == "" || strings.ContainsFunc(string(n), func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') }) {
		return fmt.Errorf("%q is neither the id of a move nor of a company: see `mpr move list`", string(n))
	}
	return nil
}

type moveStatusCommand struct {
	admin
	Move moveName `arg:"" help:"The id of a move, or of a company: then its last move."`
	Wait bool     `help:"Show the progress until the company has changed over."`
}

func (c *moveStatusCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	m, err := client.Move(ctx, string(c.Move))
	if err != nil {
		return err
	}
	if c.Wait {
		return watchMove(ctx, t, client, &m, true, c.JSON)
	}
	return t.answer(c.JSON, m, func(w io.Writer) { showMove(w, &m) })
}

type moveListCommand struct {
	admin
	Active bool `help:"Only those that are under way."`
}

func (c *moveListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	moves, err := client.Moves(ctx, c.Active)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, moves, func(w io.Writer) {
		rows := make([][]string, len(moves.Moves))
		for i, m := range moves.Moves {
			phase := string(m.Phase)
			if m.Paused {
				phase += ", paused"
			}
			copied := fmt.Sprintf("%d/%d", m.Copied, m.Rows)
			if m.Reused {
				copied = "changes only"
			}
			rows[i] = []string{m.Company.String(), string(m.From), string(m.To), phase, copied, m.Requested.Format(time.RFC3339), m.By, m.ID}
		}
		table(w, []string{"COMPANY", "FROM", "TO", "PHASE", "ROWS", "ASKED FOR", "BY", "MOVE"}, rows)
		if len(rows) == 0 {
			next(w, "mpr move start COMPANY --to REGION --dry-run%s", c.environmentFlag())
		}
	})
}

// steering is a command that steers a move.
type steering struct {
	author
	Move moveName `arg:"" help:"The id of a move, or of a company: then its last move."`
}

func (c *steering) steer(ctx context.Context, t *terminal, verb string, in control.Steering, said string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	in.By = c.who()
	m, err := client.SteerMove(ctx, string(c.Move), verb, in)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, m, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, said+"\n", m.Company)
		next(w, "mpr move status %d%s", m.Company, c.environmentFlag())
	})
}

type movePauseCommand struct{ steering }

func (c *movePauseCommand) Run(ctx context.Context, t *terminal) error {
	return c.steer(ctx, t, "pause", control.Steering{}, "The move of company %d is paused, unless it is just changing over.")
}

type moveResumeCommand struct {
	steering
	Now bool `help:"Drop the delays that apps have asked for: the change-over waits for none of them, whether the move was paused or not."`
}

func (c *moveResumeCommand) Run(ctx context.Context, t *terminal) error {
	said := "The move of company %d goes on."
	if c.Now {
		said = "The move of company %d goes on, and waits for no app any more."
	}
	return c.steer(ctx, t, "resume", control.Steering{Now: c.Now}, said)
}

type moveAbortCommand struct {
	steering
	Leave bool `name:"leave-destination" help:"Don't wait for the destination, where it is lost for good. What was copied may be left there."`
}

func (c *moveAbortCommand) Run(ctx context.Context, t *terminal) error {
	return c.steer(ctx, t, "abort", control.Steering{Leave: c.Leave}, "The move of company %d is given up, if it isn't committed by now.")
}

type moveProofCommand struct {
	admin
	Company company.ID `arg:"" help:"The company's id."`
}

func (c *moveProofCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	proof, err := client.ProveMoves(ctx, c.Company)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, proof, func(w io.Writer) {
		if len(proof.Moves) == 0 {
			_, _ = fmt.Fprintf(w, "Company %d has never moved.\n\n", proof.Company)
		}
		for _, m := range proof.Moves {
			showMove(w, m.Move)
			events := make([][]string, len(m.Events))
			for i, e := range m.Events {
				events[i] = []string{"  " + e.At.Format(time.RFC3339Nano), string(e.Phase), e.Note}
			}
			table(w, []string{"  AT", "PHASE", "NOTE"}, events)
			sums := make([][]string, 0, len(m.Checksums))
			for name, sum := range m.Checksums {
				sums = append(sums, []string{"  " + name, strconv.FormatInt(sum.Rows, 10), sum.Sum})
			}
			slices.SortFunc(sums, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
			table(w, []string{"  TABLE", "ROWS", "CHECKSUM"}, sums)
			_, _ = fmt.Fprintln(w)
		}
		copies := make([][]string, len(proof.Copies))
		for i, one := range proof.Copies {
			what := "unreachable copy"
			if one.Serves {
				what = "lives there"
			}
			if one.Problem != "" {
				what = one.Problem
			}
			copies[i] = []string{string(one.Region), strconv.FormatInt(one.Rows, 10), what}
		}
		table(w, []string{"REGION", "ROWS", "COPY"}, copies)
	})
}
