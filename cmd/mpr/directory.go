package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"mpr/control"
)

type directoryCommands struct {
	Verify  directoryVerifyCommand  `cmd:"" help:"Compare the directory with the regions' fences."`
	Rebuild directoryRebuildCommand `cmd:"" help:"Fill a directory that was lost from the regions' fences."`
}

// surveyAnswer is what both commands answer.
type surveyAnswer struct {
	control.Survey
	List []control.Difference `json:"list"`
	// More are differences that the list leaves out.
	More int `json:"more,omitempty"`
}

// listed bounds the differences that are shown.
const listed = 1000

// tell notes differences and shows progress.
func (a *surveyAnswer) tell(t *terminal) func(control.SurveyLine) {
	return func(line control.SurveyLine) {
		switch {
		case line.Progress != nil:
			p := line.Progress
			t.progress(fmt.Sprintf("%d companies, %d in the directory, %d differences", p.Companies, p.Placed, p.Found()))
		case line.Difference == nil:
		case len(a.List) == listed:
			a.More++
		default:
			a.List = append(a.List, *line.Difference)
		}
	}
}

func (a *surveyAnswer) show(w io.Writer) {
	for _, d := range a.List {
		text := fmt.Sprintf("%s: %s", d.Kind, d)
		if d.Mended != "" {
			text += ": " + d.Mended
		}
		_, _ = fmt.Fprintln(w, text)
	}
	if a.More > 0 {
		_, _ = fmt.Fprintf(w, "... and %d more\n", a.More)
	}
	if len(a.List) > 0 {
		_, _ = fmt.Fprintln(w)
	}
	kinds := make([]string, 0, len(a.Differences))
	for kind, n := range a.Differences {
		kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(kinds)
	_, _ = fmt.Fprintf(w, "%d companies, %d in the directory, %d changing over.\n", a.Companies, a.Placed, a.Moving)
	if len(a.Unasked) > 0 {
		_, _ = fmt.Fprintf(w, "Foreign services stand in for %v: what they own can't be compared.\n", a.Unasked)
	}
	for _, silent := range a.Silent {
		_, _ = fmt.Fprintf(w, "%s didn't answer, and wasn't compared: %s.\n", silent.Region, silent.Reason)
	}
	if a.Unjudged > 0 {
		_, _ = fmt.Fprintf(w, "%d companies can't be judged for that: no region that answers owns them.\n", a.Unjudged)
	}
	if len(kinds) > 0 {
		_, _ = fmt.Fprintf(w, "%d differences: %s.\n", a.Found(), strings.Join(kinds, ", "))
	}
}

type directoryVerifyCommand struct{ admin }

func (c *directoryVerifyCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	a := surveyAnswer{List: []control.Difference{}}
	a.Survey, err = client.VerifyDirectory(ctx, a.tell(t))
	t.progress("")
	if err != nil {
		return err
	}
	err = t.answer(c.JSON, a, func(w io.Writer) {
		a.show(w)
		switch {
		case a.Found() == 0 && len(a.Silent) > 0:
			_, _ = fmt.Fprintln(w, "Directory and fences of the other regions agree.")
			return
		case a.Found() == 0:
			_, _ = fmt.Fprintln(w, "Directory and fences agree.")
			if len(a.Unasked) > 0 {
				_, _ = fmt.Fprintf(w, "Not those of %v: no region of ours is there to be asked.\n", a.Unasked)
			}
			return
		}
		next(w, "mpr directory rebuild --dry-run%s", c.environmentFlag())
	})
	if err == nil && a.Found() > 0 {
		err = errors.New("the directory and the fences differ")
	}
	return errors.Join(err, a.incomplete())
}

// incomplete is the error where regions didn't answer.
func (a *surveyAnswer) incomplete() error {
	if len(a.Silent) == 0 {
		return nil
	}
	all := make([]string, len(a.Silent))
	for i, s := range a.Silent {
		all[i] = s.String()
	}
	return fmt.Errorf("regions didn't answer: %s. Start them, or see their logs for what keeps them, and repeat this", strings.Join(all, ", "))
}

type directoryRebuildCommand struct {
	admin
	DryRun bool `name:"dry-run" help:"Only say what would be done."`
	Force  bool `help:"Fill a directory that has placements: make what is missing, raise what is behind the fences, change nothing else."`
	Index  bool `help:"Have the regions tell the global index (who is in which company) of all that they have as well: after a restore of a single store."`
}

func (c *directoryRebuildCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	a := surveyAnswer{List: []control.Difference{}}
	a.Survey, err = client.RebuildDirectory(ctx, control.NewRebuild{DryRun: c.DryRun, Force: c.Force, Index: c.Index}, a.tell(t))
	t.progress("")
	if err != nil {
		return err
	}
	err = t.answer(c.JSON, a, func(w io.Writer) {
		a.show(w)
		if c.DryRun {
			_, _ = fmt.Fprintf(w, "It would make %d placements, raise %d and leave %d differences alone.\n", a.Made, a.Raised, a.Left)
			force := ""
			if a.Placed > 0 {
				force = " --force"
			}
			if a.Index {
				_, _ = fmt.Fprintln(w, "It would have the regions tell the global index of all that they have.")
				force += " --index"
			}
			next(w, "mpr directory rebuild%s%s", force, c.environmentFlag())
			return
		}
		_, _ = fmt.Fprintf(w, "%d placements are made, %d raised; %d differences are left alone.\n", a.Made, a.Raised, a.Left)
		if a.Index {
			_, _ = fmt.Fprintln(w, "The regions tell the global index of all that they have.")
		}
		next(w, "mpr directory verify%s", c.environmentFlag())
	})
	if err == nil && a.Left > 0 {
		err = fmt.Errorf("%d differences are left", a.Left)
	}
	return errors.Join(err, a.incomplete())
}
