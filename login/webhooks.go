package login

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"mpr/company"
	"mpr/problem"
	"mpr/store"
)

// webhook is where an app hears of what happens to its companies. The secret that signs isn't
// here: whoever signs derives it from the generation.
type webhook struct {
	App      int64  `json:"app"`
	ClientID string `json:"client_id"`
	Name     string `json:"name"`
	URL      string `json:"url"`
	// Generation counts the secrets. That of the one before signs beside it until PreviousUntil.
	Generation    int64     `json:"generation"`
	PreviousUntil time.Time `json:"previous_until,omitzero"`
}

const webhookColumns = `a.id, a.client_id, a.name, w.url, w.generation, w.previous_until FROM app_webhooks w JOIN apps a ON a.id = w.app_id`

func scanWebhook(scan func(...any) error) (*webhook, error) {
	var h webhook
	var until int64
	err := scan(&h.App, &h.ClientID, &h.Name, &h.URL, &h.Generation, &until)
	h.PreviousUntil = store.Time(until)
	return &h, err
}

// readWebhook reads an app's webhook.
func (s *Service) readWebhook(ctx context.Context, a *app) (*webhook, error) {
	h, err := scanWebhook(s.DB.Read().QueryRowContext(ctx, `SELECT `+webhookColumns+` WHERE a.id = $1 AND w.url <> ''`, a.ID).Scan)
	if isNoRows(err) {
		return nil, noWebhook(a)
	}
	if err != nil {
		return nil, fmt.Errorf("read a webhook: %w", err)
	}
	return h, nil
}

func noWebhook(a *app) error {
	return problem.New(problem.NotFound, "The app %s has no webhook. Give it one: mpr app webhook set %s --url URL", a.ClientID, a.ClientID)
}

// changeWebhook runs a statement on an app's webhook.
func (s *Service) changeWebhook(ctx context.Context, a *app, statement string, args ...any) error {
	return s.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, statement, append([]any{a.ID}, args...)...)
		if err != nil {
			return fmt.Errorf("change a webhook: %w", err)
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, noWebhook(a))
		}
		return nil
	})
}

// maxWebhookURL bounds a URL, in bytes. Whether one can be called is for whoever calls it to say.
const maxWebhookURL = 2000

// setWebhook gives an app a webhook, or another URL. The secret stays; after the webhook was
// removed a new one begins.
func (s *Service) setWebhook(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		URL string `json:"url"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	if in.URL == "" || len(in.URL) > maxWebhookURL || !storable(in.URL) {
		return invalidFields("The webhook can't be saved", map[string][]string{"url": {fmt.Sprintf("must have 1 to %d bytes", maxWebhookURL)}})
	}
	a, err := s.pathApp(r)
	if err != nil {
		return err
	}
	err = s.changeWebhook(r.Context(), a, `INSERT INTO app_webhooks (app_id, url, generation, previous_until) VALUES ($1, $2, 1, 0)
		ON CONFLICT (app_id) DO UPDATE SET url = excluded.url,
			generation = app_webhooks.generation + CASE WHEN app_webhooks.url = '' THEN 1 ELSE 0 END,
			previous_until = CASE WHEN app_webhooks.url = '' THEN 0 ELSE app_webhooks.previous_until END`, in.URL)
	if err != nil {
		return err
	}
	return s.tellWebhook(w, r, a)
}

// rotateWebhook begins the next secret. The one before signs beside it for the overlap. The id of a
// secret is its generation; as with apps, who says which they have seen replaces no other.
func (s *Service) rotateWebhook(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		OverlapSeconds int64  `json:"overlap_seconds"`
		SecretID       string `json:"secret_id"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	if in.OverlapSeconds < 0 || in.OverlapSeconds > int64(maxOverlap/time.Second) {
		return invalidFields("The secret can't be rotated", map[string][]string{"overlap_seconds": {"must be from 0 to 2592000 (30 days)"}})
	}
	a, err := s.pathApp(r)
	if err != nil {
		return err
	}
	until := int64(0)
	if in.OverlapSeconds > 0 {
		until = store.Micros(s.Now().Add(time.Duration(in.OverlapSeconds) * time.Second))
	}
	seen := int64(0)
	if in.SecretID != "" {
		if seen, err = strconv.ParseInt(in.SecretID, 10, 64); err != nil || seen < 1 {
			return invalidFields("The secret can't be rotated", map[string][]string{"secret_id": {"isn't one of this webhook"}})
		}
	}
	err = s.changeWebhook(r.Context(), a, `UPDATE app_webhooks SET generation = generation + 1, previous_until = $2 WHERE app_id = $1 AND url <> '' AND (generation = $3 OR $3 = 0)`, until, seen)
	if seen != 0 && errors.Is(err, problem.New(problem.NotFound, "")) {
		if _, err := s.readWebhook(r.Context(), a); err == nil {
			return problem.New(problem.Conflict, "The webhook of %s has a newer secret than the one that was in force when you looked. Look again, and make another one if you still want to.", a.ClientID)
		}
	}
	if err != nil {
		return err
	}
	return s.tellWebhook(w, r, a)
}

// removeWebhook takes an app's webhook away.
func (s *Service) removeWebhook(w http.ResponseWriter, r *http.Request) error {
	a, err := s.pathApp(r)
	if err != nil {
		return err
	}
	if err := s.changeWebhook(r.Context(), a, `UPDATE app_webhooks SET url = '', previous_until = 0 WHERE app_id = $1 AND url <> ''`); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, webhook{App: a.ID, ClientID: a.ClientID, Name: a.Name})
	return nil
}

func (s *Service) showWebhook(w http.ResponseWriter, r *http.Request) error {
	a, err := s.pathApp(r)
	if err != nil {
		return err
	}
	return s.tellWebhook(w, r, a)
}

func (s *Service) tellWebhook(w http.ResponseWriter, r *http.Request, a *app) error {
	h, err := s.readWebhook(r.Context(), a)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, h)
	return nil
}

// companyWebhooks answers the webhooks of the apps that are installed in a company, by the
// index, and of its traditional service accounts.
func (s *Service) companyWebhooks(w http.ResponseWriter, r *http.Request) error {
	id, err := company.ParseID(r.PathValue("company"))
	if err != nil {
		return problem.New(problem.BadRequest, "The company must be a number.").Because(err)
	}
	rows, err := s.DB.Read().QueryContext(r.Context(), `SELECT `+webhookColumns+` WHERE w.url <> '' AND (a.company_id = $1
		OR EXISTS (SELECT 1 FROM index_installations i WHERE i.app_id = a.id AND i.company_id = $1 AND i.deleted = 0
			AND i.version >= COALESCE((SELECT c.since FROM index_companies c WHERE c.company_id = $1), 0))) ORDER BY a.id`, int64(id))
	if err != nil {
		return fmt.Errorf("list webhooks: %w", err)
	}
	defer rows.Close()
	list := []*webhook{}
	for rows.Next() {
		h, err := scanWebhook(rows.Scan)
		if err != nil {
			return fmt.Errorf("list webhooks: %w", err)
		}
		list = append(list, h)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("list webhooks: %w", err)
	}
	writeJSON(w, http.StatusOK, map[string]any{"webhooks": list})
	return nil
}
