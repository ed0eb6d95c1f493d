package login

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mpr/store"
	"mpr/token"
)

// keyStore keeps the signing keys in the identity store.
type keyStore struct{ db *store.DB }

func (k keyStore) SigningKeys(ctx context.Context) (keys []token.StoredKey, err error) {
	rows, err := k.db.Read().QueryContext(ctx, `SELECT kid, algorithm, pem, created, signs_from FROM signing_keys`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key token.StoredKey
		var pem string
		var created, from int64
		if err := rows.Scan(&key.KID, &key.Algorithm, &pem, &created, &from); err != nil {
			return nil, err
		}
		key.PEM, key.Created, key.SignsFrom = []byte(pem), store.Time(created), store.Time(from)
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

func (k keyStore) AddSigningKey(ctx context.Context, key token.StoredKey, first bool) error {
	return k.db.Write(ctx, func(tx *sql.Tx) error {
		if first {
			var n int
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM signing_keys`).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				return nil // another login service was first
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO signing_keys (kid, algorithm, pem, created, signs_from) VALUES ($1, $2, $3, $4, $5)`,
			key.KID, key.Algorithm, string(key.PEM), store.Micros(key.Created), store.Micros(key.SignsFrom))
		return err
	})
}

func (k keyStore) DeleteSigningKey(ctx context.Context, kid string) error {
	return k.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM signing_keys WHERE kid = $1`, kid)
		return err
	})
}

// nextID takes the next id of a sequence.
func nextID(ctx context.Context, tx *sql.Tx, sequence string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE sequences SET value = value + 1 WHERE name = $1 RETURNING value`, sequence).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("take an id of %s: %w", sequence, err)
	}
	return id, nil
}
