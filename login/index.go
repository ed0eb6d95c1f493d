package login

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// indexConsumer is the durable name under which all login services of an environment
// read the changes: each change goes to one of them.
const indexConsumer = "index"

// indexSignal wakes those who wait for the index, in this process.
type indexSignal struct {
	mu sync.Mutex
	ch chan struct{}
}

func (i *indexSignal) wait() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ch == nil {
		i.ch = make(chan struct{})
	}
	return i.ch
}

func (i *indexSignal) broadcast() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ch != nil {
		close(i.ch)
		i.ch = nil
	}
}

// applyChanges applies changes to the index. Each row keeps the version that it came
// with, and an older one never replaces it: repeats and late arrivals change nothing.
func (s *Service) applyChanges(ctx context.Context, changes []directory.Change) error {
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, c := range changes {
			if err := applyChange(ctx, tx, c); err != nil {
				return fmt.Errorf("change %d of company %d: %w", c.Version, c.Company, err)
			}
		}
		return nil
	})
	if err == nil {
		s.indexed.broadcast()
	}
	return err
}

func applyChange(ctx context.Context, tx *sql.Tx, c directory.Change) error {
	var err error
	switch c.Kind {
	case directory.ChangeCompany:
		var data struct {
			Name string `json:"name"`
		}
		if !c.Deleted {
			err = json.Unmarshal(c.Data, &data)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `INSERT INTO index_companies (company_id, name, version) VALUES ($1, $2, $3)
				ON CONFLICT (company_id) DO UPDATE SET name = excluded.name, version = excluded.version WHERE index_companies.version < excluded.version`,
				int64(c.Company), data.Name, c.Version)
		}
	case directory.ChangeMembership:
		_, err = tx.ExecContext(ctx, `INSERT INTO index_memberships (user_id, company_id, deleted, version) VALUES ($1, $2, $3, $4)
			ON CONFLICT (user_id, company_id) DO UPDATE SET deleted = excluded.deleted, version = excluded.version WHERE index_memberships.version < excluded.version`,
			c.Key, int64(c.Company), flag(c.Deleted), c.Version)
	case directory.ChangeInstallation:
		_, err = tx.ExecContext(ctx, `INSERT INTO index_installations (app_id, company_id, deleted, version) VALUES ($1, $2, $3, $4)
			ON CONFLICT (app_id, company_id) DO UPDATE SET deleted = excluded.deleted, version = excluded.version WHERE index_installations.version < excluded.version`,
			c.Key, int64(c.Company), flag(c.Deleted), c.Version)
	}
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO index_versions (company_id, version) VALUES ($1, $2)
		ON CONFLICT (company_id) DO UPDATE SET version = excluded.version WHERE index_versions.version < excluded.version`,
		int64(c.Company), c.Version)
	return err
}

// waitForIndex waits until the index has applied a version of a company; it says false
// where that takes too long.
func (s *Service) waitForIndex(ctx context.Context, id company.ID, version int64, atMost time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for {
		changed := s.indexed.wait() // before looking, so that nothing is missed in between
		var applied int64
		err := s.DB.Read().QueryRowContext(ctx, `SELECT version FROM index_versions WHERE company_id = $1`, int64(id)).Scan(&applied)
		if err == nil && applied >= version {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, nil
		}
		if err != nil && !isNoRows(err) {
			return false, fmt.Errorf("read the index: %w", err)
		}
		// Another login service may have applied it: look again even if nobody says so.
		again := time.NewTimer(100 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again.C:
		}
		again.Stop()
	}
}

// companySet is the part of a query that selects a caller's companies. It has the
// caller's id as $1.
func companySet(c *token.Claims) (set string, caller int64) {
	if c.Kind.ServiceAccount() {
		return `SELECT company_id FROM index_installations WHERE app_id = $1 AND deleted = 0`, c.App
	}
	return `SELECT company_id FROM index_memberships WHERE user_id = $1 AND deleted = 0`, c.Subject
}

// checkCompany refuses a call that names a company in which the caller has no part. The
// gateway has checked the header's form and that the company exists.
func (s *Service) checkCompany(ctx context.Context, r *http.Request, c *token.Claims) error {
	named := r.Header.Values(s.Policy.CompanyHeader)
	if len(named) == 0 {
		return nil
	}
	id, refusal := s.Policy.ReadHeader(named)
	if refusal != nil {
		return refusal
	}
	set, caller := companySet(c)
	var n int
	err := s.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM (`+set+`) AS mine WHERE company_id = $2`, caller, int64(id)).Scan(&n)
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	if n == 0 || c.Company != 0 && c.Company != id {
		return s.Policy.NoAccess(c.Kind)
	}
	return nil
}

// me answers GET /rest/v1.0/me, Show User Info.
func (s *Service) me(w http.ResponseWriter, r *http.Request) error {
	claims, err := s.bearer(w, r)
	if err != nil {
		return err
	}
	if err := s.checkCompany(r.Context(), r, claims); err != nil {
		return err
	}
	if claims.Kind != rules.UserToken {
		a, err := s.appByID(r.Context(), claims.App)
		if err != nil {
			return err
		}
		if a == nil {
			return problem.New(problem.InvalidToken, "The access token is invalid")
		}
		writeJSON(w, http.StatusOK, user{ID: a.ID, Login: a.ClientID, Name: a.Name})
		return nil
	}
	u, err := s.userByID(r.Context(), claims.Subject)
	if err != nil {
		return err
	}
	if u == nil {
		return problem.New(problem.InvalidToken, "The access token is invalid")
	}
	writeJSON(w, http.StatusOK, u)
	return nil
}

// listedCompany is a company as List Companies shows it.
type listedCompany struct {
	ID       company.ID `json:"id"`
	Name     string     `json:"name"`
	IsActive bool       `json:"is_active"`
}

// companies answers GET /rest/v1.0/companies, List Companies, for all regions at once.
func (s *Service) companies(w http.ResponseWriter, r *http.Request) error {
	claims, err := s.bearer(w, r)
	if err != nil {
		return err
	}
	if err := s.checkCompany(r.Context(), r, claims); err != nil {
		return err
	}
	p, err := readPage(r)
	if err != nil {
		return err
	}
	set, caller := companySet(claims)
	var total int
	if err := s.DB.Read().QueryRowContext(r.Context(), `SELECT COUNT(*) FROM (`+set+`) AS mine`, caller).Scan(&total); err != nil {
		return fmt.Errorf("count companies: %w", err)
	}
	list, err := s.listCompanies(r.Context(), `SELECT mine.company_id, COALESCE(c.name, '') FROM (`+set+`) AS mine
		LEFT JOIN index_companies c ON c.company_id = mine.company_id ORDER BY mine.company_id LIMIT $2 OFFSET $3`, caller, p.size, p.offset())
	if err != nil {
		return err
	}
	p.setHeaders(w, r, total)
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (s *Service) listCompanies(ctx context.Context, query string, args ...any) (list []listedCompany, err error) {
	rows, err := s.DB.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list companies: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	list = []listedCompany{}
	for rows.Next() {
		c := listedCompany{IsActive: true}
		if err := rows.Scan(&c.ID, &c.Name); err != nil {
			return nil, fmt.Errorf("list companies: %w", err)
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

// page is a part of a list.
type page struct{ number, size int }

const (
	defaultPageSize = 100
	maxPageSize     = 1000
	maxPageNumber   = 1_000_000
)

func (p page) offset() int { return (p.number - 1) * p.size }

// readPage reads the parameters page and per_page.
func readPage(r *http.Request) (page, error) {
	p := page{1, defaultPageSize}
	for name, into := range map[string]struct {
		to   *int
		most int
	}{"page": {&p.number, maxPageNumber}, "per_page": {&p.size, maxPageSize}} {
		values := r.URL.Query()[name]
		if len(values) == 0 {
			continue
		}
		n, err := strconv.Atoi(strings.Join(values, ",")) // one value, or no number
		if err != nil || n < 1 || n > into.most {
			return p, problem.New(problem.BadRequest, "The parameter %s must be a number from 1 to %d.", name, into.most)
		}
		*into.to = n
	}
	return p, nil
}

// setHeaders tells the client how to go on (RFC 8288), with URLs on the host that it
// called.
func (p page) setHeaders(w http.ResponseWriter, r *http.Request, total int) {
	h := w.Header()
	h.Set("Total", strconv.Itoa(total))
	h.Set("Per-Page", strconv.Itoa(p.size))
	host, scheme := r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Forwarded-Proto")
	if host == "" {
		host, scheme = r.Host, "http"
	}
	last := max((total+p.size-1)/p.size, 1)
	link := func(rel string, number int) string {
		u := *r.URL
		q := u.Query()
		q.Set("page", strconv.Itoa(number))
		q.Set("per_page", strconv.Itoa(p.size))
		u.Scheme, u.Host, u.RawQuery = scheme, host, q.Encode()
		return fmt.Sprintf("<%s>; rel=%q", u.String(), rel)
	}
	links := link("first", 1) + ", " + link("last", last)
	if p.number > 1 {
		links += ", " + link("prev", min(p.number-1, last))
	}
	if p.number < last {
		links += ", " + link("next", p.number+1)
	}
	h.Set("Link", links)
}
