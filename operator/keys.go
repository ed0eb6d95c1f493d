package operator

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"mpr/problem"
	"mpr/store"
)

// Claim is what a request has on its idempotency key. A nil one is that of a request without a key.
type Claim struct {
	service                         *Service
	environment, kind, key, request string

	// Made names what was made with the key before; "" where nothing was, or it was cut off.
	Made string
	// First says that no request had the key before, as far as is known here: those from before keys
	// were kept aren't.
	First bool
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
	err = s.DB.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `INSERT INTO operator_keys (environment, kind, key, request, made, used) VALUES ($1, $2, $3, $4, '', $5) ON CONFLICT (environment, kind, key) DO NOTHING`,
			c.environment, c.kind, c.key, c.request, store.Micros(s.Now()))
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		if err != nil {
			return err
		}
		c.First = n == 1
		return tx.QueryRowContext(ctx, `SELECT request, made FROM operator_keys WHERE environment = $1 AND kind = $2 AND key = $3`, c.environment, c.kind, c.key).Scan(&before, &c.Made)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("claim an idempotency key: %w", err)
	case before != c.request:
		return nil, problem.New(problem.KeyReused, "This idempotency key was used before, for a request with other content. Use another key for this one.")
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
