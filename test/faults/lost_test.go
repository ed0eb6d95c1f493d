package faults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mpr/company"
	"mpr/config"
	"mpr/control"
	"mpr/move"
)

// survey verifies the directory, and answers what was found by company.
func (s *system) survey() (control.Survey, map[company.ID]control.Difference) {
	s.t.Helper()
	found := map[company.ID]control.Difference{}
	var all control.Survey
	s.eventually("verify the directory", func(ctx context.Context) (err error) {
		clear(found)
		all, err = s.admin.VerifyDirectory(ctx, func(line control.SurveyLine) {
			if line.Difference != nil {
				found[line.Difference.Company] = *line.Difference
			}
		})
		if err == nil && len(all.Silent) > 0 {
			err = fmt.Errorf("regions don't answer: %v", all.Silent)
		}
		return err
	})
	return all, found
}

func (s *system) rebuild(in control.NewRebuild) control.Survey {
	s.t.Helper()
	all, err := s.admin.RebuildDirectory(s.t.Context(), in, func(control.SurveyLine) {})
	s.check(err)
	if len(all.Silent) > 0 {
		s.t.Fatalf("regions don't answer: %v", all.Silent)
	}
	return all
}

func (s *system) moveTo(ids []company.ID, to company.Region) {
	s.t.Helper()
	for _, id := range ids {
		_, err := s.admin.StartMove(s.t.Context(), control.NewMove{Request: move.Request{Company: id, To: to, By: "the test"}})
		s.check(err)
	}
	s.settled(ids)
}

// answers waits until a call of a company is answered so by all gateways.
func (s *system) answers(id company.ID, token string, want int) {
	s.t.Helper()
	for _, gateway := range s.gateways {
		s.eventually(fmt.Sprintf("company %d is answered %d", id, want), func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateway+"/rest/v1.0/projects?company_id="+id.String(), http.NoBody)
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Procore-Company-Id", id.String())
			status, data, err := exchange(req)
			if err == nil && status != want {
				err = fmt.Errorf("%d %s", status, data)
			}
			return err
		})
	}
}

// granted gets another token for the app, and revokes it where that is wanted.
func (s *system) granted(revoke bool) (token string) {
	s.t.Helper()
	first := s.token
	s.token = ""
	s.grant()
	token, s.token = s.token, first
	if !revoke {
		return token
	}
	s.eventually("revoke a token", func(ctx context.Context) error {
		form := url.Values{"token": {token}, "client_id": {s.app.ClientID}, "client_secret": {s.app.ClientSecret}}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.login+"/oauth/revoke", strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		status, data, err := exchange(req)
		if status != http.StatusOK {
			return fmt.Errorf("%d %s %w", status, data, errors.Join(err))
		}
		return err
	})
	return token
}

// All data of the directory is lost while everything runs. Calls go on; the placements come
// from the regions' fences, keys and revocations from the login service.
func TestALostDirectoryIsRebuilt(t *testing.T) {
	s := newSystem(t)
	ids := s.found(6, here)
	s.moveTo(ids[:2], there)
	s.moveTo(ids[:1], here) // and back
	revoked := s.granted(true)
	s.answers(ids[0], revoked, http.StatusUnauthorized)
	s.processes["directory"].kill()
	s.check(os.RemoveAll(filepath.Join(s.dir, "directory", "jetstream")))
	s.start("directory")
	// Copies on disk must not be what helps.
	s.processes["gateway 1"].kill()
	s.check(os.RemoveAll(filepath.Join(s.dir, "gateway 1")))

	all, found := s.survey()
	if all.Placed != 0 || all.Companies != len(ids) || all.Differences[control.DiffMissing] != len(ids) || len(found) != len(ids) {
		t.Errorf("a directory that was lost: %+v, %v", all, found)
	}
	if all := s.rebuild(control.NewRebuild{DryRun: true}); all.Made != len(ids) {
		t.Errorf("a dry run would make %+v", all)
	}
	if all, _ := s.survey(); all.Placed != 0 {
		t.Errorf("a dry run has made %+v", all)
	}
	if all := s.rebuild(control.NewRebuild{}); all.Made != len(ids) || all.Left != 0 {
		t.Errorf("a rebuild has made %+v", all)
	}
	if _, err := s.admin.RebuildDirectory(t.Context(), control.NewRebuild{}, func(control.SurveyLine) {}); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a directory that isn't empty: %v", err)
	}
	if all := s.rebuild(control.NewRebuild{Force: true}); all.Made != 0 || all.Raised != 0 || all.Left != 0 {
		t.Errorf("a rebuild that is repeated has done something: %+v", all)
	}
	if all, found := s.survey(); all.Found() != 0 || all.Placed != len(ids) {
		t.Errorf("after the rebuild: %+v, %v", all, found)
	}
	s.start("gateway 1")
	for i, id := range ids {
		c, err := s.admin.Company(t.Context(), id)
		s.check(err)
		want := control.Company{Region: here, Epoch: []company.Epoch{3, 2, 1, 1, 1, 1}[i]}
		if i == 1 {
			want.Region = there
		}
		if c.Region != want.Region || c.Epoch != want.Epoch {
			t.Errorf("company %d is in %s at epoch %d, want %+v", id, c.Region, c.Epoch, want)
		}
		s.answers(id, s.token, http.StatusOK)
		s.answers(id, revoked, http.StatusUnauthorized)
	}
	s.moveTo(ids[2:4], there) // turns went on from where they were
	s.found(1, here)
	if all, found := s.survey(); all.Found() != 0 {
		t.Errorf("after all: %+v, %v", all, found)
	}
}

// fence changes the fences of a region behind its back.
func (s *system) fence(code company.Region, statement string, args ...any) {
	s.t.Helper()
	cfg, err := config.Load(s.processes[string(code)].file, 0, "", "")
	s.check(err)
	all := cfg.Environments[0].Regions
	dsn := all[slices.IndexFunc(all, func(r config.RegionConfig) bool { return r.Code == string(code) })].Store
	driver := "pgx"
	if path, is := strings.CutPrefix(dsn, "sqlite:"); is {
		driver, dsn = "sqlite", path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, dsn)
	s.check(err)
	_, err = db.ExecContext(s.t.Context(), statement, args...)
	s.check(errors.Join(err, db.Close()))
}

// Each way in which the directory and the fences may disagree is found, and what a rebuild may
// mend it mends.
func TestEachDisagreementIsFound(t *testing.T) {
	s := newSystem(t)
	ids := s.found(6, here)
	nowhere, elsewhere, epoch, twice, behind, fine := ids[0], ids[1], ids[2], ids[3], ids[4], ids[5]
	s.moveTo([]company.ID{nowhere, fine}, there)
	const forge = `INSERT INTO fence (company_id, epoch, state, version, gone_region, gone_epoch, purged) VALUES ($1, $2, $3, 1, $4, $5, 0)`
	s.fence(there, `UPDATE fence SET state = 'gone', gone_region = 'US01', gone_epoch = 3 WHERE company_id = $1`, int64(nowhere))
	s.fence(here, `UPDATE fence SET state = 'gone', gone_region = 'EU01', gone_epoch = 2 WHERE company_id = $1`, int64(elsewhere))
	s.fence(there, forge, int64(elsewhere), 2, "owned", "", 0)
	s.fence(here, `UPDATE fence SET epoch = 7 WHERE company_id = $1`, int64(epoch))
	s.fence(there, forge, int64(twice), 1, "owned", "", 0)
	s.fence(here, `UPDATE fence SET state = 'frozen' WHERE company_id = $1`, int64(behind)) // in the middle of a move
	missing, lost := company.ID(company.FirstID(16)+77), company.ID(company.FirstID(16)+78)
	s.fence(there, forge, int64(missing), 4, "owned", "", 0)
	s.fence(there, `INSERT INTO companies (company_id, name, onboarded, created, updated) VALUES ($1, 'M', '2017-05-01', 1, 1)`, int64(missing))
	s.fence(there, forge, int64(lost), 4, "gone", "US01", 5)

	all, found := s.survey()
	want := map[company.ID]string{
		nowhere: control.DiffNowhere, elsewhere: control.DiffElsewhere, epoch: control.DiffEpoch, twice: control.DiffTwice, missing: control.DiffMissing, lost: control.DiffLost,
	}
	for id, kind := range want {
		if found[id].Kind != kind {
			t.Errorf("company %d: %+v, want %s", id, found[id], kind)
		}
	}
	if all.Found() != len(want) || all.Moving != 1 || all.Companies != len(ids)+2 {
		t.Errorf("%+v", all)
	}
	mended := s.rebuild(control.NewRebuild{Force: true})
	if mended.Made != 1 || mended.Raised != 2 || mended.Left != 3 {
		t.Errorf("the rebuild: %+v", mended)
	}
	_, found = s.survey()
	for id, kind := range map[company.ID]string{nowhere: control.DiffNowhere, twice: control.DiffTwice, lost: control.DiffLost} {
		if found[id].Kind != kind {
			t.Errorf("afterwards company %d: %+v, want %s", id, found[id], kind)
		}
		delete(found, id)
	}
	if len(found) > 0 {
		t.Errorf("afterwards there is %v", found)
	}
	c, err := s.admin.Company(t.Context(), missing)
	s.check(err)
	if c.Region != there || c.Epoch != 4 || c.Onboarded != "2017-05-01" {
		t.Errorf("what was missing is %+v", c)
	}
}
