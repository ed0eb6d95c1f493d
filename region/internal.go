package region

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"mpr/company"
	"mpr/intercom"
)

// Internal serves the control role, which shows the internal secret.
func (s *Service) Internal() http.Handler {
	mux := http.NewServeMux()
	for pattern, op := range map[string]operation{
		"POST /internal/companies":                                s.internalBear,
		"GET /internal/companies/{company_id}":                    s.internalCompany,
		"PUT /internal/companies/{company_id}/users/{user_id}":    s.internalPutUser,
		"DELETE /internal/companies/{company_id}/users/{user_id}": s.internalDeleteUser,
		"PUT /internal/companies/{company_id}/apps/{app_id}":      s.internalPutApp,
		"DELETE /internal/companies/{company_id}/apps/{app_id}":   s.internalDeleteApp,
		"GET /internal/fence/{company_id}":                        s.internalFence,
		"GET /internal/fences":                                    s.internalFences,
		"GET /internal/status":                                    s.internalStatus,

		"PUT /internal/companies/{company_id}/monthly_sandbox": s.internalSetSandbox,
		"GET /internal/monthly_sandbox":                        s.internalSandboxed,
		"GET /internal/companies/{company_id}/rows":            s.internalRows,
		"GET /internal/ids":                                    s.internalIDs,
		"PUT /internal/ids":                                    s.internalRaiseIDs,
	} {
		mux.Handle(pattern, s.answerInternal(op))
	}
	mux.Handle("GET "+snapshotPath, s.streamInternal(s.internalSnapshot))
	mux.Handle("PUT "+snapshotPath, s.streamInternal(s.internalLoad))
	s.handleContract(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { route(mux, s.answerInternal, w, r) })
}

// answerInternal runs an operation of a process of ours, on the company in the path.
func (s *Service) answerInternal(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.admitInternal(w, r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.run(w, r, op, c)
	})
}

// streamInternal runs an operation that reads or writes a body of any size itself.
func (s *Service) streamInternal(op func(context.Context, *call) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.internalCall(w, r)
		if err == nil {
			err = op(r.Context(), c)
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	})
}

func (s *Service) admitInternal(w http.ResponseWriter, r *http.Request) (c *call, err error) {
	if c, err = s.internalCall(w, r); err != nil {
		return nil, err
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		c.body, err = readBody(w, r, s.MaxBody)
	}
	return c, err
}

// internalCall checks the secret, and reads which company the path names.
func (s *Service) internalCall(w http.ResponseWriter, r *http.Request) (c *call, err error) {
	if err := intercom.Admit(w, r, s.Secret); err != nil {
		return nil, err
	}
	c = &call{w: w, r: r, epoch: anyEpoch}
	if text := r.PathValue("company_id"); text != "" {
		if c.company, err = company.ParseID(text); err != nil {
			return nil, errNothingHere
		}
	}
	return c, nil
}

func (s *Service) internalBear(ctx context.Context, c *call) (int, any, error) {
	var n newCompany
	f := c.body.fields()
	f.name("name", &n.name)
	f.name("idempotency_key", &n.key)
	f.text("onboarded", &n.onboarded, maxName)
	f.flag("closed", &n.closed)
	if _, err := time.Parse(time.DateOnly, n.onboarded); err != nil {
		f.fail("onboarded", "must be a day such as 2019-01-01")
	}
	if f.has("projects") {
		var ok bool
		if n.projects, ok = c.body.objects("projects"); !ok {
			f.fail("projects", "must be a list of objects")
		}
	}
	if err := f.problem(); err != nil {
		return 0, nil, err
	}
	b, isNew, err := s.bear(ctx, n)
	if isNew {
		return http.StatusCreated, b, err
	}
	return http.StatusOK, b, err
}

func (s *Service) internalCompany(ctx context.Context, c *call) (int, any, error) {
	return s.showCompany(ctx, c)
}

func (s *Service) internalFence(ctx context.Context, c *call) (int, any, error) {
	f, err := readFence(ctx, s.DB.Read(), c.company)
	var n *notOwned
	if errors.As(err, &n) {
		err = errNothingHere
	}
	return http.StatusOK, f, err
}

// status is what the region says of itself.
type status struct {
	Region    company.Region `json:"region"`
	Companies int            `json:"companies"`
	// Unpublished counts the changes that the global index doesn't have yet.
	Unpublished int `json:"unpublished"`
}

func (s *Service) internalStatus(ctx context.Context, _ *call) (int, any, error) {
	now := status{Region: s.Code}
	err := s.DB.Read().QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM fence WHERE state = 'owned'), (SELECT COUNT(*) FROM change_log WHERE published = 0)`).
		Scan(&now.Companies, &now.Unpublished)
	if err != nil {
		return 0, nil, fmt.Errorf("count: %w", err)
	}
	return http.StatusOK, now, nil
}

// changeIndexed writes to a company wherever its epoch stands, and answers the version
// that the global index must reach to show it; 0 where there was nothing to change.
func (s *Service) changeIndexed(ctx context.Context, c *call, variable string, f func(w *writer, id int64) error) (int, any, error) {
	id, err := pathID(c, variable)
	if err != nil {
		return 0, nil, err
	}
	var version int64
	err = s.write(ctx, c.company, c.epoch, func(w *writer) error {
		err := f(w, id)
		version = w.indexed
		return err
	})
	return http.StatusOK, map[string]int64{"version": version}, err
}

func (s *Service) internalPutUser(ctx context.Context, c *call) (int, any, error) {
	return s.changeIndexed(ctx, c, "user_id", func(w *writer, id int64) error {
		u, err := readUser(ctx, w, c.company, id)
		if errors.Is(err, errNothingHere) {
			u, err = &userRow{ID: id}, nil
		}
		if err != nil {
			return err
		}
		f := c.body.fields()
		f.name("login", &u.Login)
		f.name("name", &u.Name)
		if err := f.problem(); err != nil {
			return err
		}
		u.IsActive = true
		return w.saveUser(ctx, u)
	})
}

func (s *Service) internalDeleteUser(ctx context.Context, c *call) (int, any, error) {
	return s.changeIndexed(ctx, c, "user_id", func(w *writer, id int64) error { return w.removeUser(ctx, id) })
}

func (s *Service) internalPutApp(ctx context.Context, c *call) (int, any, error) {
	return s.changeIndexed(ctx, c, "app_id", func(w *writer, id int64) error {
		i, err := readInstallation(ctx, w, c.company, id)
		if errors.Is(err, errNothingHere) {
			i, err = &installationRow{ID: id}, nil
		}
		if err != nil {
			return err
		}
		f := c.body.fields()
		f.name("client_id", &i.ClientID)
		f.name("name", &i.Name)
		f.choice("kind", &i.Kind, appKinds...)
		i.PermittedProjects = f.ids("permitted_projects")
		return w.saveInstallation(ctx, f, i)
	})
}

func (s *Service) internalDeleteApp(ctx context.Context, c *call) (int, any, error) {
	return s.changeIndexed(ctx, c, "app_id", func(w *writer, id int64) error { return w.removeInstallation(ctx, id) })
}
