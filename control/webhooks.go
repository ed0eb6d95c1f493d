package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"mpr/operator"
	"mpr/problem"
	"mpr/webhook"
)

// Webhooks as the admin API shows them.
type (
	// NewWebhook says where an app hears of events.
	NewWebhook struct {
		URL string `json:"url"`
	}
	// Webhook is where an app hears of events, and the secret that it verifies them with.
	Webhook struct {
		ClientID string `json:"client_id"`
		URL      string `json:"url,omitempty"`
		// Secret is derived, and so it can be told whenever an operator asks; "" for viewers, and
		// where the webhook was removed.
		Secret string `json:"secret,omitempty"`
		// SecretID names the secret, for rotating it once.
		SecretID string `json:"secret_id,omitempty"`
		// PreviousUntil is until when the secret before signs as well.
		PreviousUntil time.Time `json:"previous_until,omitzero"`
	}
	// Delivery is an event on its way to an app.
	Delivery = webhook.Delivery
	// DeliveryList lists what an app was sent and is to be sent, the newest first.
	DeliveryList struct {
		ClientID   string     `json:"client_id"`
		Deliveries []Delivery `json:"deliveries"`
	}
	// WebhookTest is what came of an event that was sent for a test.
	WebhookTest = webhook.TestResult
	// Redelivery is an event that is sent again.
	Redelivery struct {
		ClientID string `json:"client_id"`
		Event    string `json:"event"`
	}
)

// deliveriesListed bounds a list of deliveries.
const deliveriesListed = 500

// askWebhook has the login service do something to an app's webhook, and answers how it is.
func (s *Service) askWebhook(r *http.Request, e *Environment, method, verb string, in any) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	var hook webhook.Hook
	if err := s.identity(r.Context(), e, method, fmt.Sprintf("/internal/apps/%d/webhook%s", app.ID, verb), in, &hook); err != nil {
		return 0, nil, err
	}
	out := Webhook{ClientID: hook.ClientID, URL: hook.URL}
	if hook.URL == "" {
		return http.StatusOK, out, nil
	}
	out.SecretID = strconv.FormatInt(hook.Generation, 10)
	if hook.PreviousUntil.After(s.now()) {
		out.PreviousUntil = hook.PreviousUntil
	}
	if a := askedBy(r); !a.owner && !a.role.Covers(operator.Operator) {
		return http.StatusOK, out, nil
	}
	out.Secret, err = webhook.SecretOf(s.secret, e.Name, hook.ClientID, hook.Generation)
	return http.StatusOK, out, err
}

func (s *Service) setWebhook(r *http.Request, e *Environment) (int, any, error) {
	var in NewWebhook
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	if err := webhook.CheckURL(in.URL, s.webhooks.AllowPrivate); err != nil {
		why := err.Error()
		if errors.Is(err, webhook.ErrPrivate) {
			why += " (webhooks.allow_private allows it, for tests)"
		}
		return 0, nil, invalid("url", why)
	}
	noted(r).After = in
	return s.askWebhook(r, e, http.MethodPut, "", in)
}

func (s *Service) showWebhook(r *http.Request, e *Environment) (int, any, error) {
	return s.askWebhook(r, e, http.MethodGet, "", nil)
}

func (s *Service) removeWebhook(r *http.Request, e *Environment) (int, any, error) {
	return s.askWebhook(r, e, http.MethodDelete, "", nil)
}

func (s *Service) rotateWebhook(r *http.Request, e *Environment) (int, any, error) {
	var in SecretRotation
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	return s.askWebhook(r, e, http.MethodPost, "/rotate", in)
}

func (s *Service) testWebhook(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	out, err := s.webhooks.Test(r.Context(), e.Name, app.ID)
	return http.StatusOK, out, relay(err, problem.IdentityUnavailable, "The login service")
}

func (s *Service) listDeliveries(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	list, err := s.webhooks.Deliveries(r.Context(), e.Name, app.ID, deliveriesListed)
	return http.StatusOK, DeliveryList{app.ClientID, list}, err
}

func (s *Service) redeliver(r *http.Request, e *Environment) (int, any, error) {
	app, err := s.app(r, e)
	if err != nil {
		return 0, nil, err
	}
	event := r.PathValue("event")
	err = s.webhooks.Redeliver(r.Context(), e.Name, app.ID, event)
	return http.StatusAccepted, Redelivery{app.ClientID, event}, err
}

func hookPath(app string) string { return "/apps/" + segment(app) + "/webhook" }

// SetWebhook says where an app hears of events.
func (c *Client) SetWebhook(ctx context.Context, app string, in NewWebhook) (out Webhook, err error) {
	err = c.do(ctx, http.MethodPut, hookPath(app), in, &out)
	return out, err
}

// Webhook shows an app's webhook.
func (c *Client) Webhook(ctx context.Context, app string) (out Webhook, err error) {
	err = c.do(ctx, http.MethodGet, hookPath(app), nil, &out)
	return out, err
}

// RotateWebhook makes a new secret for an app's webhook.
func (c *Client) RotateWebhook(ctx context.Context, app string, in SecretRotation) (out Webhook, err error) {
	err = c.do(ctx, http.MethodPost, hookPath(app)+"/rotate", in, &out)
	return out, err
}

// RemoveWebhook takes an app's webhook away.
func (c *Client) RemoveWebhook(ctx context.Context, app string) (out Webhook, err error) {
	err = c.do(ctx, http.MethodDelete, hookPath(app), nil, &out)
	return out, err
}

// TestWebhook sends an app an event that says nothing.
func (c *Client) TestWebhook(ctx context.Context, app string) (out WebhookTest, err error) {
	err = c.do(ctx, http.MethodPost, hookPath(app)+"/test", nil, &out)
	return out, err
}

// Deliveries lists what an app was sent and is to be sent.
func (c *Client) Deliveries(ctx context.Context, app string) (out DeliveryList, err error) {
	err = c.do(ctx, http.MethodGet, hookPath(app)+"/deliveries", nil, &out)
	return out, err
}

// Redeliver sends an app an event again.
func (c *Client) Redeliver(ctx context.Context, app, event string) (out Redelivery, err error) {
	err = c.do(ctx, http.MethodPost, hookPath(app)+"/deliveries/"+segment(event), nil, &out)
	return out, err
}
