package control

import (
	"context"
	"net/http"
	"strings"

	"mpr/limit"
	"mpr/problem"
)

// Limits keep the limits that operators set for apps, by client id.
type Limits interface {
	Setting(ctx context.Context, client string) (limit.Setting, error)
	// Change sets what isn't nil, and leaves the rest as it is.
	Change(ctx context.Context, client string, set limit.Setting) (limit.Setting, error)
	Reset(ctx context.Context, client string) error
}

// AppLimits are how many calls an app may make.
type AppLimits struct {
	ClientID string `json:"client_id"`
	// InForce is what comes out of Set and OfAll; 0 is no limit.
	InForce limit.Limits `json:"in_force"`
	// Set is what an operator has set for the app.
	Set limit.Setting `json:"set"`
	// OfAll are the limits of apps for which nothing is set.
	OfAll limit.Limits `json:"of_all"`
}

// NewLimits asks for limits of an app. What is nil stays as it is.
type NewLimits struct {
	Hour  *int64 `json:"hour,omitempty"`
	Spike *int64 `json:"spike,omitempty"`
	By    string `json:"by"`
}

func (s *Service) showLimits(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	set, err := e.Limits.Setting(r.Context(), app.ClientID)
	return http.StatusOK, e.limitsOf(app, set), err
}

func (e *Environment) limitsOf(app *App, set limit.Setting) AppLimits {
	return AppLimits{ClientID: app.ClientID, InForce: set.Over(e.LimitsOfAll), Set: set, OfAll: e.LimitsOfAll}
}

func (s *Service) setLimits(r *http.Request, e *Environment) (int, any, error) {
	var in NewLimits
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	in.By = by(r, in.By)
	wrong := map[string][]string{}
	for name, n := range map[string]*int64{"hour": in.Hour, "spike": in.Spike} {
		if n != nil && (*n < 0 || *n > limit.MaxLimit) {
			wrong[name] = []string{"must be a number of calls from 0, for no limit, to 1000000000"}
		}
	}
	if in.Hour == nil && in.Spike == nil {
		wrong["hour"] = []string{"must be set, or spike, or both"}
	}
	if strings.TrimSpace(in.By) == "" || !isLine(in.By) {
		wrong["by"] = []string{"must say who changes the limits, on one line of at most 500 bytes"}
	}
	if len(wrong) > 0 {
		p := problem.New(problem.Invalid, "The limits can't be set: some fields are wrong.")
		p.Fields = wrong
		return 0, nil, p
	}
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	if noted(r).Before, err = e.Limits.Setting(r.Context(), app.ClientID); err != nil {
		return 0, nil, err
	}
	set, err := e.Limits.Change(r.Context(), app.ClientID, limit.Setting{Hour: in.Hour, Spike: in.Spike, By: in.By, At: s.now().UTC()})
	noted(r).After = set
	return http.StatusOK, e.limitsOf(app, set), err
}

func (s *Service) resetLimits(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	if noted(r).Before, err = e.Limits.Setting(r.Context(), app.ClientID); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, e.limitsOf(app, limit.Setting{}), e.Limits.Reset(r.Context(), app.ClientID)
}

// AppLimits answers the limits of an app.
func (c *Client) AppLimits(ctx context.Context, app string) (out AppLimits, err error) {
	err = c.do(ctx, http.MethodGet, "/apps/"+segment(app)+"/limits", nil, &out)
	return out, err
}

// SetAppLimits sets limits of an app.
func (c *Client) SetAppLimits(ctx context.Context, app string, in NewLimits) (out AppLimits, err error) {
	err = c.do(ctx, http.MethodPatch, "/apps/"+segment(app)+"/limits", in, &out)
	return out, err
}

// ResetAppLimits takes back what is set for an app.
func (c *Client) ResetAppLimits(ctx context.Context, app string) (out AppLimits, err error) {
	err = c.do(ctx, http.MethodDelete, "/apps/"+segment(app)+"/limits", nil, &out)
	return out, err
}
