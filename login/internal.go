package login

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/intercom"
	"mpr/paging"
	"mpr/problem"
)

// internalRoutes are for our own processes, which show the internal secret.
func (s *Service) internalRoutes(mux *http.ServeMux) {
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /internal/users":                       s.addUser,
		"GET /internal/users":                        s.findUser,
		"GET /internal/users/{user}":                 s.showUser,
		"POST /internal/users/{user}/disable":        s.disableUser,
		"POST /internal/users/{user}/enable":         s.enableUser,
		"PUT /internal/users/{user}/password":        s.setPassword,
		"POST /internal/apps":                        s.addApp,
		"PUT /internal/apps/{app}":                   s.saveApp,
		"GET /internal/apps":                         s.listApps,
		"GET /internal/apps/{app}":                   s.showApp,
		"POST /internal/apps/{app}/rotate-secret":    s.newSecretFor,
		"GET /internal/apps/{app}/installations":     s.listInstallations,
		"GET /internal/apps/{app}/webhook":           s.showWebhook,
		"PUT /internal/apps/{app}/webhook":           s.setWebhook,
		"DELETE /internal/apps/{app}/webhook":        s.removeWebhook,
		"POST /internal/apps/{app}/webhook/rotate":   s.rotateWebhook,
		"GET /internal/companies/{company}/webhooks": s.companyWebhooks,
		"GET /internal/identity":                     s.sendIdentity,
		"PUT /internal/identity":                     s.takeIdentity,
		"GET /internal/keys":                         s.listKeys,
		"POST /internal/keys/rotate":                 s.rotateKey,
		"GET /internal/companies":                    s.companyNames,
		"GET /internal/index/{company}":              s.indexState,
	} {
		mux.HandleFunc(pattern, answer(func(w http.ResponseWriter, r *http.Request) error {
			if err := intercom.Admit(w, r, s.Secret); err != nil {
				return err
			}
			return h(w, r)
		}))
	}
}

// readBody reads a JSON object of at most 64 KiB.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxParams))
	err := dec.Decode(v)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return invalidFields("The body can't be used", map[string][]string{wrong.Field: {"has the wrong type: " + wrong.Value}})
	}
	if err != nil {
		return tooLarge(err, problem.New(problem.MalformedJSON, "The body is not the JSON object that this takes.").Because(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return problem.New(problem.MalformedJSON, "The body holds more than one JSON value.")
	}
	return nil
}

// addUser makes a user. With ?ensure=1 a user who is there already is the answer, instead
// of a conflict.
func (s *Service) addUser(w http.ResponseWriter, r *http.Request) error {
	var n newUser
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	u, err := s.createUser(r.Context(), n)
	status := http.StatusCreated
	if r.URL.Query().Get("ensure") == "1" && errors.Is(err, problem.New(problem.Conflict, "")) {
		status = http.StatusOK
		u, err = s.userByLogin(r.Context(), n.Login)
	}
	if err != nil {
		return err
	}
	writeJSON(w, status, u)
	return nil
}

func (s *Service) findUser(w http.ResponseWriter, r *http.Request) error {
	u, err := s.userByLogin(r.Context(), r.URL.Query().Get("login"))
	if err != nil {
		return err
	}
	if u == nil {
		return problem.New(problem.NotFound, "There is no user with this login.")
	}
	writeJSON(w, http.StatusOK, accountOf(u))
	return nil
}

// showUser answers a user as the control role sees its operators.
func (s *Service) showUser(w http.ResponseWriter, r *http.Request) error {
	id, err := pathUser(r)
	if err != nil {
		return err
	}
	u, err := s.userByID(r.Context(), id)
	if err != nil {
		return err
	}
	if u == nil {
		return errNoUser()
	}
	writeJSON(w, http.StatusOK, accountOf(u))
	return nil
}

// saveApp makes an app of our own with that client id, or gives it these redirect URIs.
func (s *Service) saveApp(w http.ResponseWriter, r *http.Request) error {
	var n newApp
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	n.ClientID = r.PathValue("app")
	a, err := s.createApp(r.Context(), n)
	if errors.Is(err, problem.New(problem.Conflict, "")) {
		a, err = s.redirectApp(r.Context(), n)
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, a)
	return nil
}

// addApp makes an app. With ?ensure=1 one that has the client id already is the answer,
// without its secret, instead of a conflict.
func (s *Service) addApp(w http.ResponseWriter, r *http.Request) error {
	var n newApp
	if err := readBody(w, r, &n); err != nil {
		return err
	}
	a, err := s.createApp(r.Context(), n)
	status := http.StatusCreated
	if r.URL.Query().Get("ensure") == "1" && errors.Is(err, problem.New(problem.Conflict, "")) {
		status = http.StatusOK
		a, err = s.appByClientID(r.Context(), n.ClientID)
	}
	if err != nil {
		return err
	}
	writeJSON(w, status, a)
	return nil
}

// listApps answers a page of apps, those with the client ids that ?client_ids= names, or those that
// ?q= finds.
func (s *Service) listApps(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("q") {
		return s.searchApps(w, r)
	}
	if named := r.URL.Query().Get("client_ids"); named != "" {
		list, err := s.appsByClientID(r.Context(), strings.Split(named, ","))
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, map[string]any{"apps": list, "total": len(list)})
		return nil
	}
	p, err := paging.Read(r.URL.Query(), maxPageSize)
	if err != nil {
		return err
	}
	list, total, err := s.apps(r.Context(), p)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"apps": list, "total": total})
	return nil
}

// pathApp finds an app by its id or its client id.
func (s *Service) pathApp(r *http.Request) (*app, error) {
	named := r.PathValue("app")
	var a *app
	id, err := strconv.ParseInt(named, 10, 64)
	if err == nil {
		a, err = s.appByID(r.Context(), id)
	} else {
		a, err = s.appByClientID(r.Context(), named)
	}
	if err == nil && a == nil {
		err = problem.New(problem.NotFound, "There is no app with this id or client id.")
	}
	return a, err
}

func (s *Service) showApp(w http.ResponseWriter, r *http.Request) error {
	a, err := s.pathApp(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, a)
	return nil
}

// listInstallations answers a page of the companies in which an app is installed, as the index knows
// them.
func (s *Service) listInstallations(w http.ResponseWriter, r *http.Request) error {
	a, err := s.pathApp(r)
	if err != nil {
		return err
	}
	p, err := paging.Read(r.URL.Query(), maxPageSize)
	if err != nil {
		return err
	}
	const from = `index_installations i LEFT JOIN index_companies c ON c.company_id = i.company_id WHERE i.app_id = $1 AND i.deleted = 0 AND COALESCE(c.deleted, 0) = 0 AND i.version >= COALESCE(c.since, 0)`
	var total int
	if err := s.DB.Read().QueryRowContext(r.Context(), `SELECT COUNT(*) FROM `+from, a.ID).Scan(&total); err != nil {
		return fmt.Errorf("count installations: %w", err)
	}
	list, err := s.listCompanies(r.Context(), `SELECT i.company_id, COALESCE(c.name, '') FROM `+from+` ORDER BY i.company_id LIMIT $2 OFFSET $3`, a.ID, p.Size, p.Offset())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"companies": list, "total": total})
	return nil
}

func (s *Service) newSecretFor(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		OverlapSeconds int64  `json:"overlap_seconds"`
		SecretID       string `json:"secret_id"` // the one that was seen in force; "" for any
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	a, err := s.pathApp(r)
	if err != nil {
		return err
	}
	// Bounded before it is multiplied, so that it can't overflow into something allowed.
	seconds := max(min(in.OverlapSeconds, int64(maxOverlap/time.Second)+1), -1)
	if err := s.rotateSecret(r.Context(), a, time.Duration(seconds)*time.Second, in.SecretID); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, a)
	return nil
}

func (s *Service) listKeys(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]any{"keys": s.ring.Keys()})
	return nil
}

func (s *Service) rotateKey(w http.ResponseWriter, r *http.Request) error {
	kid, from, err := s.ring.Rotate(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{"kid": kid, "signs_from": from})
	return nil
}

// companyNames answers the names of companies, which regions keep and the index knows, or the
// companies that ?q= finds.
func (s *Service) companyNames(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("q") {
		return s.searchCompanies(w, r)
	}
	ids := strings.Split(r.URL.Query().Get("ids"), ",")
	if len(ids) > maxPageSize {
		return problem.New(problem.BadRequest, "At most %d companies at a time.", maxPageSize)
	}
	marks, args := make([]string, len(ids)), make([]any, len(ids))
	for i, text := range ids {
		id, err := company.ParseID(text)
		if err != nil {
			return problem.New(problem.BadRequest, "The parameter ids must be company ids with commas between them.").Because(err)
		}
		marks[i], args[i] = fmt.Sprintf("$%d", i+1), int64(id)
	}
	list, err := s.listCompanies(r.Context(),
		`SELECT company_id, name FROM index_companies WHERE company_id IN (`+strings.Join(marks, ", ")+`) ORDER BY company_id`, args...)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

// maxIndexWait bounds how long a request may wait for the index.
const maxIndexWait = 10 * time.Second

// indexState answers 200 once the index has applied a version of a company, and 202 where
// that takes longer than asked for.
func (s *Service) indexState(w http.ResponseWriter, r *http.Request) error {
	id, err := company.ParseID(r.PathValue("company"))
	q := r.URL.Query()
	version, err2 := strconv.ParseInt(q.Get("version"), 10, 64)
	wait, err3 := int64(0), error(nil)
	if q.Has("wait_ms") {
		wait, err3 = strconv.ParseInt(q.Get("wait_ms"), 10, 32)
	}
	if err := errors.Join(err, err2, err3); err != nil {
		return problem.New(problem.BadRequest, "The company, version and wait_ms must be numbers.").Because(err)
	}
	applied, err := s.waitForIndex(r.Context(), id, version, min(max(time.Duration(wait)*time.Millisecond, 0), maxIndexWait))
	if err != nil {
		return err
	}
	status := http.StatusOK
	if !applied {
		status = http.StatusAccepted
	}
	writeJSON(w, status, map[string]bool{"applied": applied})
	return nil
}
