package region

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
	"mpr/token"
)

// Internal serves the control role, which shows the internal secret.
func (s *Service) Internal() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(*http.Request) (int, any, error){
		"POST /internal/companies":                                s.internalBear,
		"GET /internal/companies/{company_id}":                    s.internalCompany,
		"PUT /internal/companies/{company_id}/users/{user_id}":    s.internalPutUser,
		"DELETE /internal/companies/{company_id}/users/{user_id}": s.internalDeleteUser,
		"PUT /internal/companies/{company_id}/apps/{app_id}":      s.internalPutApp,
		"DELETE /internal/companies/{company_id}/apps/{app_id}":   s.internalDeleteApp,
		"GET /internal/fence/{company_id}":                        s.internalFence,
		"GET /internal/status":                                    s.internalStatus,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			presented, err := token.Bearer(r.Header.Values("Authorization"))
			if err != nil || subtle.ConstantTimeCompare([]byte(presented), []byte(s.Secret)) != 1 {
				problem.Write(w, r, problem.New(problem.Unauthorized, "This needs the internal secret."))
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxInternalBody)
			status, body, err := h(r)
			if err != nil {
				s.refuse(w, r, err)
				return
			}
			writeJSON(w, status, body)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(mux, w, r) })
}

const maxInternalBody = 1 << 20

func readInternal(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	if err := dec.Decode(v); err != nil {
		return malformed("it isn't what this takes").Because(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed("something follows it")
	}
	return nil
}

func internalID(r *http.Request, name string) (int64, error) {
	id, err := company.ParseID(r.PathValue(name))
	if err != nil {
		return 0, errNothingHere
	}
	return int64(id), nil
}

func storable(text string, most int) bool {
	return strings.TrimSpace(text) != "" && utf8.ValidString(text) && utf8.RuneCountInString(text) <= most && !strings.ContainsRune(text, 0)
}

func (s *Service) internalBear(r *http.Request) (int, any, error) {
	var in newCompany
	if err := readInternal(r, &in); err != nil {
		return 0, nil, err
	}
	f := (object{}).fields()
	if !storable(in.Name, maxName) {
		f.fail("name", "must have 1 to 255 characters")
	}
	if !storable(in.IdempotencyKey, maxName) {
		f.fail("idempotency_key", "must have 1 to 255 characters")
	}
	onboarded, err := time.Parse(time.DateOnly, in.Onboarded)
	if err != nil {
		f.fail("onboarded", "must be a day such as 2019-01-01")
	}
	if err := f.problem(); err != nil {
		return 0, nil, err
	}
	b, err := s.bear(r.Context(), in, store.Micros(onboarded))
	return http.StatusCreated, b, err
}

func (s *Service) internalCompany(r *http.Request) (int, any, error) {
	id, err := internalID(r, "company_id")
	if err != nil {
		return 0, nil, err
	}
	row, err := readCompany(r.Context(), s.DB.Read(), company.ID(id))
	return http.StatusOK, row, err
}

func (s *Service) internalFence(r *http.Request) (int, any, error) {
	id, err := internalID(r, "company_id")
	if err != nil {
		return 0, nil, err
	}
	f, err := readFence(r.Context(), s.DB.Read(), company.ID(id))
	if err == nil && f == nil {
		err = errNothingHere
	}
	return http.StatusOK, f, err
}

func (s *Service) internalStatus(r *http.Request) (int, any, error) {
	var n int
	if err := s.DB.Read().QueryRowContext(r.Context(), `SELECT COUNT(*) FROM fence WHERE state = 'owned'`).Scan(&n); err != nil {
		return 0, nil, fmt.Errorf("count companies: %w", err)
	}
	return http.StatusOK, map[string]any{"region": s.Code, "companies": n}, nil
}

// change writes to a company at whichever epoch the region owns it, and answers the
// version that the global index must reach to show it.
func (s *Service) change(r *http.Request, name string, f func(ctx context.Context, w *writer, id int64) error) (int, any, error) {
	ctx := r.Context()
	companyID, err := internalID(r, "company_id")
	if err != nil {
		return 0, nil, err
	}
	id, err := internalID(r, name)
	if err != nil {
		return 0, nil, err
	}
	note, err := readFence(ctx, s.DB.Read(), company.ID(companyID))
	if err != nil {
		return 0, nil, err
	}
	if note == nil {
		return 0, nil, &notOwned{}
	}
	var version int64
	err = s.write(ctx, company.ID(companyID), note.Epoch, func(w *writer) (err error) {
		if err := f(ctx, w, id); err != nil {
			return err
		}
		version, err = w.nextVersion(ctx, 0)
		return err
	})
	return http.StatusOK, map[string]int64{"version": version}, err
}

func (s *Service) internalPutUser(r *http.Request) (int, any, error) {
	var in struct {
		Login string `json:"login"`
		Name  string `json:"name"`
	}
	if err := readInternal(r, &in); err != nil {
		return 0, nil, err
	}
	if !storable(in.Login, maxName) || !storable(in.Name, maxName) {
		return 0, nil, problem.New(problem.Invalid, "login and name must have 1 to 255 characters each.")
	}
	return s.change(r, "user_id", func(ctx context.Context, w *writer, id int64) error {
		u, err := readUser(ctx, w, w.company, id)
		switch {
		case errors.Is(err, errNothingHere):
			u = &userRow{ID: id, Login: in.Login, IsActive: true}
			u.setName(in.Name)
			return w.insertUser(ctx, u)
		case err != nil:
			return err
		}
		u.IsActive, u.Login = true, in.Login
		u.setName(in.Name)
		u.setTimes(w.now)
		_, err = w.ExecContext(ctx, `UPDATE memberships SET login = $3, name = $4, is_active = 1, updated = $5 WHERE company_id = $1 AND user_id = $2`,
			int64(w.company), id, u.Login, u.Name, w.now)
		if err != nil {
			return err
		}
		return w.logUser(ctx, u)
	})
}

func (s *Service) internalDeleteUser(r *http.Request) (int, any, error) {
	return s.change(r, "user_id", func(ctx context.Context, w *writer, id int64) error {
		_, err := w.removeUser(ctx, id)
		return err
	})
}

func (s *Service) internalPutApp(r *http.Request) (int, any, error) {
	var in struct {
		ClientID          string   `json:"client_id"`
		Name              string   `json:"name"`
		Kind              string   `json:"kind"`
		PermittedProjects *[]int64 `json:"permitted_projects"`
	}
	if err := readInternal(r, &in); err != nil {
		return 0, nil, err
	}
	if !storable(in.ClientID, maxName) || !storable(in.Name, maxName) || !storable(in.Kind, maxName) {
		return 0, nil, problem.New(problem.Invalid, "client_id, name and kind must have 1 to 255 characters each.")
	}
	if in.PermittedProjects != nil && in.Kind != kindDeveloperManaged {
		return 0, nil, problem.New(problem.Invalid, "Only developer-managed service accounts are limited to projects.")
	}
	return s.change(r, "app_id", func(ctx context.Context, w *writer, id int64) error {
		i, err := s.readInstallation(ctx, w, w.company, id)
		isNew := errors.Is(err, errNothingHere)
		if isNew {
			i, err = &installationRow{ID: id}, nil
		}
		if err != nil {
			return err
		}
		i.ClientID, i.Name, i.Kind, i.PermittedProjects = in.ClientID, in.Name, in.Kind, in.PermittedProjects
		return w.saveInstallation(ctx, i, isNew)
	})
}

func (s *Service) internalDeleteApp(r *http.Request) (int, any, error) {
	return s.change(r, "app_id", func(ctx context.Context, w *writer, id int64) error {
		_, err := s.removeInstallation(ctx, w, id)
		return err
	})
}
