package control

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
)

// NewRebuild asks for a rebuild of the directory.
type NewRebuild struct {
	// DryRun only says what would be done.
	DryRun bool `json:"dry_run,omitempty"`
	// Force fills a directory that has placements: what is missing is made, and what is behind
	// the fences is raised. Nothing else is changed.
	Force bool `json:"force,omitempty"`
	// Index has the regions tell the global index of all that they have as well.
	Index bool `json:"index,omitempty"`
}

// Survey is what verifying or rebuilding a directory has come to.
type Survey struct {
	// Companies are all that the directory or a region knows; Placed those in the directory,
	// before a rebuild.
	Companies int `json:"companies"`
	Placed    int `json:"placed"`
	// Moving are those that change over just now.
	Moving int `json:"moving"`
	// Differences counts those that were found, by kind.
	Differences map[string]int `json:"differences"`
	// Made and Raised are the placements that a rebuild has made, and brought up to the fences;
	// Left are differences that it has left alone.
	Made   int `json:"made,omitempty"`
	Raised int `json:"raised,omitempty"`
	Left   int `json:"left,omitempty"`
	// Unasked are regions that foreign services stand in for: their fences can't be listed.
	Unasked []company.Region `json:"unasked,omitempty"`
	// Silent are regions that didn't answer: what they own wasn't compared, and a rebuild changes
	// nothing without them. Unjudged are companies that no other region owns.
	Silent   []SilentRegion `json:"silent,omitempty"`
	Unjudged int            `json:"unjudged,omitempty"`
	DryRun   bool           `json:"dry_run,omitempty"`
	// Index says that the regions tell the global index of all that they have.
	Index bool `json:"index,omitempty"`
}

// Found is how many differences there are.
func (s Survey) Found() (n int) {
	for _, count := range s.Differences {
		n += count
	}
	return n
}

// SurveyLine is a line of the answer: one of the members.
type SurveyLine struct {
	Progress   *Survey     `json:"progress,omitempty"`
	Difference *Difference `json:"difference,omitempty"`
	Result     *Survey     `json:"result,omitempty"`
	// Code and Message say why the survey has ended without a result.
	Code    problem.Code `json:"code,omitempty"`
	Message string       `json:"message,omitempty"`
}

// surveyor tells of a survey as it goes on.
type surveyor struct {
	survey *survey
	tell   func(SurveyLine) error
	now    Survey
	told   time.Time
	// rebuild is what was asked for; nil where the directory is only verified.
	rebuild *NewRebuild
	batch   []company.Placement // to be made
}

const (
	// tellEvery is how often progress is told, and lineStall how long a line may take to be
	// taken.
	tellEvery = 500 * time.Millisecond
	lineStall = 30 * time.Second
	// loadAtOnce is how many placements are made at once.
	loadAtOnce = 500
	// looksAt bounds how many differences are looked at again: who has lost a directory has one
	// for each company, and none of them is passing.
	looksAt = 500
)

func (s *Service) verifyDirectory(w http.ResponseWriter, r *http.Request) {
	s.surveyDirectory(w, r, nil)
}

func (s *Service) rebuildDirectory(w http.ResponseWriter, r *http.Request) {
	var in NewRebuild
	if err := readJSON(r, &in); err != nil {
		problem.Write(w, r, err)
		return
	}
	noted(r).After = in
	s.surveyDirectory(w, r, &in)
}

func (s *Service) surveyDirectory(w http.ResponseWriter, r *http.Request, rebuild *NewRebuild) {
	e, err := s.environment(r.PathValue("environment"))
	if err == nil && e.Registry == nil {
		err = problem.New(problem.NotFound, "%s has no directory here.", e.Name)
	}
	var v *survey
	if err == nil {
		v, err = s.survey(r.Context(), e)
	}
	if err == nil && rebuild != nil && v.census.Len() > 0 && !rebuild.Force && !rebuild.DryRun {
		err = problem.New(problem.Conflict, "The directory of %s has %d placements. Where some are missing, or a rebuild was cut off, repeat it with --force: it makes what is missing, raises what is behind the regions, and changes nothing else.",
			e.Name, v.census.Len())
	}
	if err != nil {
		problem.Write(w, r, store.Explain(err))
		return
	}
	y := newSurveyor(v, rebuild, lineWriter{w}.write)
	w.Header().Set("Content-Type", "application/jsonl; charset=utf-8")
	err = y.run(r.Context())
	if err == nil && rebuild != nil && rebuild.Index {
		if y.now.Index = true; !rebuild.DryRun {
			err = e.Registry.TellIndex(r.Context())
		}
	}
	if err == nil {
		err = y.write(SurveyLine{Result: &y.now})
	}
	if err == nil {
		return
	}
	p := problem.From(store.Explain(err))
	slog.WarnContext(r.Context(), "a survey of the directory broke off", "environment", e.Name, "error", err)
	if y.write(SurveyLine{Code: p.Code, Message: p.Message}) != nil {
		panic(http.ErrAbortHandler) // nobody is there any longer
	}
}

func newSurveyor(v *survey, rebuild *NewRebuild, tell func(SurveyLine) error) *surveyor {
	y := &surveyor{survey: v, tell: tell, rebuild: rebuild, now: Survey{Differences: map[string]int{}, Placed: v.census.Len(), Silent: v.silent, DryRun: rebuild != nil && rebuild.DryRun}}
	for code := range v.foreign {
		y.now.Unasked = append(y.now.Unasked, code)
	}
	slices.Sort(y.now.Unasked)
	return y
}

func (y *surveyor) run(ctx context.Context) error {
	if err := y.write(SurveyLine{Progress: &y.now}); err != nil { // the answer has begun
		return err
	}
	err := y.survey.each(ctx, func(at *standing, _ int) error {
		y.now.Companies++
		d, moving := at.judge()
		if moving {
			y.now.Moving++
		}
		if time.Since(y.told) > tellEvery {
			if err := y.write(SurveyLine{Progress: &y.now}); err != nil {
				return err
			}
		}
		if at.unsure() {
			y.now.Unjudged++
			return nil
		}
		if d == nil {
			return nil
		}
		return y.differs(ctx, at, d)
	})
	if err != nil {
		return err
	}
	return y.flush(ctx)
}

// differs tells of a difference that lasts, and mends it where that was asked for.
func (y *surveyor) differs(ctx context.Context, at *standing, d *Difference) error {
	// A company that is missing can be made at once: making it changes nothing that is there.
	make1 := y.rebuild != nil && d.Kind == DiffMissing
	if !make1 && y.now.Found() < looksAt {
		var err error
		if d, err = y.survey.lasting(ctx, at.company); err != nil || d == nil {
			return err
		}
	}
	y.now.Differences[d.Kind]++
	if y.rebuild == nil {
		return y.write(SurveyLine{Difference: d})
	}
	if err := y.mend(ctx, at, d); err != nil {
		return err
	}
	if d.Mended == "made" && !y.rebuild.DryRun {
		return nil // a lost directory would be a line for each company
	}
	return y.write(SurveyLine{Difference: d})
}

func (y *surveyor) mend(ctx context.Context, at *standing, d *Difference) error {
	due, sure := at.due()
	switch {
	case len(y.survey.silent) > 0:
		// It may be the last that has acted on the company, under a later turn.
		d.Mended = "left alone: " + named(y.survey.silent) + " didn't answer"
	case due == nil || !sure:
		d.Mended = "left alone: the fences don't say where it lives"
	case due.Onboarded.IsZero():
		d.Mended = "left alone: no region knows when it became a customer"
	case at.placed == nil:
		d.Mended = "made"
		y.batch = append(y.batch, *due)
		if len(y.batch) >= loadAtOnce {
			return y.flush(ctx)
		}
		return nil
	case due.Epoch > at.placed.Epoch:
		return y.raise(ctx, at.company, d)
	default:
		d.Mended = "left alone: the directory is at a later epoch than the fences"
	}
	y.now.Left++
	return nil
}

// raise brings a placement up to the fences. Both are read again, since the company may be
// moving.
func (y *surveyor) raise(ctx context.Context, id company.ID, d *Difference) error {
	d.Mended = "raised"
	if y.rebuild.DryRun {
		y.now.Raised++
		return nil
	}
	at, revision, err := y.survey.again(ctx, id)
	if err != nil {
		return err
	}
	due, sure := at.due()
	if due == nil || !sure || at.placed == nil || due.Epoch <= at.placed.Epoch {
		d.Mended = "left alone: it has changed meanwhile"
		y.now.Left++
		return nil
	}
	due.Onboarded, due.Turn = at.placed.Onboarded, max(due.Turn, at.placed.Turn)
	_, err = y.survey.e.Registry.Update(ctx, *due, revision)
	if errors.Is(err, problem.New(problem.Conflict, "")) {
		d.Mended = "left alone: it has changed meanwhile"
		y.now.Left++
		return nil
	}
	if err == nil {
		y.now.Raised++
	}
	return err
}

// flush makes the placements that wait. Where one of them has been made meanwhile, each is
// made by itself.
func (y *surveyor) flush(ctx context.Context) error {
	batch := y.batch
	y.batch = nil
	if y.rebuild == nil || len(batch) == 0 {
		return nil
	}
	if y.rebuild.DryRun {
		y.now.Made += len(batch)
		return nil
	}
	_, err := y.survey.e.Registry.Load(ctx, slices.Values(batch))
	if err == nil {
		y.now.Made += len(batch)
		return nil
	}
	if !errors.Is(err, problem.New(problem.Conflict, "")) {
		return err
	}
	for _, p := range batch {
		err := y.survey.e.Placements.Create(ctx, p)
		switch {
		case err == nil:
			y.now.Made++
		case errors.Is(err, problem.New(problem.Conflict, "")):
			y.now.Left++ // somebody has made another one meanwhile
		default:
			return err
		}
	}
	return nil
}

func (y *surveyor) write(line SurveyLine) error {
	if line.Progress != nil {
		y.told = time.Now()
	}
	return y.tell(line)
}

// lineWriter writes an answer line by line.
type lineWriter struct{ w http.ResponseWriter }

func (l lineWriter) write(line SurveyLine) error {
	control := http.NewResponseController(l.w)
	if err := control.SetWriteDeadline(time.Now().Add(lineStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	enc := json.NewEncoder(l.w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line); err != nil {
		return err
	}
	return control.Flush()
}

// backupPath is where the directory's records are, of all environments.
const backupPath = "/admin/v1/directory/backup"

// backUpDirectory answers the directory's records. An answer that fails later breaks off.
func (s *Service) backUpDirectory(w http.ResponseWriter, r *http.Request) {
	if s.backup == nil {
		problem.Write(w, r, problem.New(problem.NotFound, "There is no directory here."))
		return
	}
	w.Header().Set("Content-Type", "application/jsonl; charset=utf-8")
	control := http.NewResponseController(w)
	begun := false
	_, err := s.backup(r.Context(), writerFunc(func(p []byte) (int, error) {
		begun = true
		if err := control.SetWriteDeadline(time.Now().Add(lineStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, err
		}
		return w.Write(p)
	}))
	switch {
	case err == nil:
	case !begun:
		w.Header().Del("Content-Type")
		problem.Write(w, r, err)
	default:
		slog.WarnContext(r.Context(), "a backup of the directory broke off", "error", err)
		panic(http.ErrAbortHandler)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
