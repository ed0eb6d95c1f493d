package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"mpr/company"
	"mpr/paging"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// companySet is the part of a query that selects a caller's companies, as "mine": those
// of a user's memberships, or those in which a service account's app is installed. It has
// the caller's id as $1, and as $2 the only company that the token is tied to, or 0.
func companySet(c *token.Claims) (from string, args []any) {
	table, caller := `index_memberships m WHERE m.user_id = $1`, c.Subject
	if c.Kind.ServiceAccount() {
		table, caller = `index_installations m WHERE m.app_id = $1`, c.App
	}
	return `(SELECT m.company_id, m.version FROM ` + table + ` AND m.deleted = 0 AND (m.company_id = $2 OR $2 = CAST(0 AS BIGINT))) AS mine
		LEFT JOIN index_companies c ON c.company_id = mine.company_id WHERE COALESCE(c.deleted, 0) = 0 AND mine.version >= COALESCE(c.since, 0)`, []any{caller, int64(c.Company)}
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
	from, args := companySet(c)
	var n int
	err := s.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM `+from+` AND mine.company_id = $3`, append(args, int64(id))...).Scan(&n)
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	if n == 0 {
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
			return refuseToken(w, problem.New(problem.InvalidToken, "The access token is invalid"))
		}
		writeJSON(w, http.StatusOK, user{ID: a.ID, Login: a.ClientID, Name: a.Name})
		return nil
	}
	u, err := s.userByID(r.Context(), claims.Subject)
	if err != nil {
		return err
	}
	if u == nil {
		return refuseToken(w, problem.New(problem.InvalidToken, "The access token is invalid"))
	}
	writeJSON(w, http.StatusOK, u)
	return nil
}

// maxPageSize is the longest page of a list.
const maxPageSize = 1000

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
	p, err := paging.Read(r.URL.Query(), maxPageSize)
	if err != nil {
		return err
	}
	from, args := companySet(claims)
	var total int
	if err := s.DB.Read().QueryRowContext(r.Context(), `SELECT COUNT(*) FROM `+from, args...).Scan(&total); err != nil {
		return fmt.Errorf("count companies: %w", err)
	}
	list, err := s.listCompanies(r.Context(), `SELECT mine.company_id, COALESCE(c.name, '') FROM `+from+` ORDER BY mine.company_id LIMIT $3 OFFSET $4`,
		append(args, p.Size, p.Offset())...)
	if err != nil {
		return err
	}
	p.SetHeaders(w, r, total)
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
