package operator

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"mpr/problem"
	"mpr/store"
)

// keysKept is for how long it is known what a key was used for, from its first use.
const keysKept = 24 * time.Hour

// Claim is what a request has on its idempotency key. A nil one is that of a request without a key.
type Claim struct {
	service                         *Service
	environment, kind, key, request string

	// Made names what was made with the key before; "" where nothing was, or it was cut off.
	Made string
	// First says that no request had the key before, as far as is known here: those of which a day has
	// passed aren't.
	First bool
}

// KeyReused refuses a request whose key stands for another one.
func KeyReused() *problem.Problem {
	return problem.New(problem.KeyReused, "This idempotency key was used before, for a request with other content. Use another key for this one.")
}

// Claim claims a key for a request that makes something of a kind in an environment. The same key with
// other content is [problem.KeyReused]: whoever sent it would take what was made for what they asked for.
func (s *Service) Claim(ctx context.Context, environment, kind, key string, request any) (*Claim, error) {
	content, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("claim an idempotency key: %w", err)
	}
	c := &Claim{service: s, environment: environment, kind: kind, key: fingerprint(key), request: fingerprint(string(content))}
	var before string
	var claims int64
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		// One statement: between two of them another request may give the key up, or the sweep forget it.
		return tx.QueryRowContext(ctx, `INSERT INTO operator_keys (environment, kind, key, request, made, claims, used) VALUES ($1, $2, $3, $4, '', 1, $5)
			ON CONFLICT (environment, kind, key) DO UPDATE SET claims = operator_keys.claims + 1 RETURNING request, made, claims`,
			c.environment, c.kind, c.key, c.request, store.Micros(s.Now())).Scan(&before, &c.Made, &claims)
	})
	c.First = claims == 1
	switch {
	case err != nil:
		return nil, fmt.Errorf("claim an idempotency key: %w", err)
	case before != c.request:
		return nil, KeyReused()
	}
	return c, nil
}

// Keep notes what was made.
func (c *Claim) Keep(ctx context.Context, made string) error {
	if c == nil {
		return nil
	}
	if err := c.service.DB.Write(ctx, func(tx *sql.Tx) error { return c.keep(ctx, tx, made) }); err != nil {
		return fmt.Errorf("keep an idempotency key: %w", err)
	}
	return nil
}

// With answers a context whose next write to the control store also notes what was made.
func (c *Claim) With(ctx context.Context, made string) context.Context {
	if c == nil {
		return ctx
	}
	return c.service.DB.Along(ctx, func(tx *sql.Tx) error { return c.keep(ctx, tx, made) })
}

func (c *Claim) keep(ctx context.Context, tx *sql.Tx, made string) error {
	_, err := tx.ExecContext(ctx, `UPDATE operator_keys SET made = $5 WHERE environment = $1 AND kind = $2 AND key = $3 AND request = $4`, c.environment, c.kind, c.key, c.request, made)
	return err
}

// Drop gives the key up where nothing was made: what was wrong with the request can be corrected, and
// sent with the same key.
func (c *Claim) Drop(ctx context.Context) error {
	if c == nil {
		return nil
	}
	err := c.service.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM operator_keys WHERE environment = $1 AND kind = $2 AND key = $3 AND request = $4 AND made = ''`, c.environment, c.kind, c.key, c.request)
		return err
	})
	if err != nil {
		return fmt.Errorf("give an idempotency key up: %w", err)
	}
	return nil
}
