package login

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpr/company"
	"mpr/paging"
	"mpr/problem"
	"mpr/rules"
	"mpr/store"
)

// The kinds of apps.
const (
	kindWeb              = "web"               // keeps a secret; people authorize it
	kindInstalled        = "installed"         // a public client: keeps no secret, uses PKCE
	kindDeveloperManaged = "developer_managed" // a service account of every company that installs it
	kindTraditional      = "traditional"       // a service account of one company
)

// outOfBand is the redirect URI of apps that can't be redirected to: the code is shown on
// a page, to be copied.
const outOfBand = "urn:ietf:wg:oauth:2.0:oob"

// app is a registered client.
type app struct {
	ID           int64      `json:"id"`
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`
	ClientID     string     `json:"client_id"`
	ClientSecret string     `json:"client_secret,omitempty"` // only in the answer that made it
	RedirectURIs []string   `json:"redirect_uris"`
	Company      company.ID `json:"company,omitempty"`
	// SecretID names the secret that is in force, and gives nothing of it away; OldSecretUntil is
	// until when the one before is as good.
	SecretID       string    `json:"secret_id,omitempty"`
	OldSecretUntil time.Time `json:"old_secret_until,omitzero"`

	secretHash, oldSecretHash string
}

// public says whether the app can keep no secret (RFC 6749 section 2.1).
func (a *app) public() bool { return a.Kind == kindInstalled }

// serviceAccount says whether the app speaks for itself.
func (a *app) serviceAccount() bool {
	return a.Kind == kindDeveloperManaged || a.Kind == kindTraditional
}

// tokenKind is whom the app's access tokens speak for.
func (a *app) tokenKind() rules.TokenKind {
	switch a.Kind {
	case kindTraditional:
		return rules.TraditionalToken
	case kindDeveloperManaged:
		return rules.DeveloperManagedToken
	}
	return rules.UserToken
}

// hasSecret compares in constant time. After a rotation with an overlap the old secret is
// as good as the new one, for a while.
func (a *app) hasSecret(secret string, now time.Time) bool {
	current := sameFingerprint(secret, a.secretHash)
	old := sameFingerprint(secret, a.oldSecretHash) && now.Before(a.OldSecretUntil)
	return current || old
}

// newApp is what an app is made of.
type newApp struct {
	// ClientID is made up where it is empty.
	ClientID     string     `json:"client_id"`
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`
	RedirectURIs []string   `json:"redirect_uris"`
	Company      company.ID `json:"company"`
}

const maxRedirectURIs = 20

var clientIDForm = regexp.MustCompile(`^[A-Za-z0-9_-]{8,128}$`)

func (n *newApp) check(prefix string) error {
	fields := map[string][]string{}
	if n.ClientID == "" {
		n.ClientID = prefix + rand.Text()
	}
	if !clientIDForm.MatchString(n.ClientID) || !strings.HasPrefix(n.ClientID, prefix) {
		fields["client_id"] = []string{"must have 8 to 128 letters, digits, - and _, and begin as all client ids of the environment do: " + strconv.Quote(prefix)}
	}
	n.Name = strings.TrimSpace(n.Name)
	if !plausibleName(n.Name) {
		fields["name"] = []string{"must have 1 to 255 characters"}
	}
	people := n.Kind == kindWeb || n.Kind == kindInstalled
	if !people && n.Kind != kindDeveloperManaged && n.Kind != kindTraditional {
		fields["kind"] = []string{"must be web, installed, developer_managed or traditional"}
	}
	if (n.Kind == kindTraditional) != (n.Company > 0) {
		fields["company"] = []string{"must be given for a traditional service account, and for no other app"}
	}
	switch {
	case people && len(n.RedirectURIs) == 0:
		fields["redirect_uris"] = []string{"must have at least one URI; " + outOfBand + " shows the code on a page"}
	case !people && len(n.RedirectURIs) > 0:
		fields["redirect_uris"] = []string{"must be empty for a service account"}
	case len(n.RedirectURIs) > maxRedirectURIs:
		fields["redirect_uris"] = []string{fmt.Sprintf("must have at most %d URIs", maxRedirectURIs)}
	}
	for _, uri := range n.RedirectURIs {
		if why := wrongRedirectURI(uri); why != "" {
			fields["redirect_uris"] = append(fields["redirect_uris"], why)
		}
	}
	return invalidFields("The app can't be saved", fields)
}

// wrongRedirectURI says what is wrong with a redirect URI; nothing if it is fine: absolute,
// without a fragment (RFC 6749 section 3.1.2), https, or http on this machine, or a
// scheme of the app's own with a dot in it (RFC 8252 section 7.1).
func wrongRedirectURI(uri string) string {
	if uri == outOfBand {
		return ""
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "" || len(uri) > 2000 || strings.ContainsAny(uri, " \t\r\n\x00\\"):
		return "must be absolute URIs of at most 2000 characters"
	case strings.Contains(uri, "#"):
		return "must not have a fragment (#...)"
	case u.User != nil:
		return "must not have a user name or password in it"
	case (u.Scheme == "https" || u.Scheme == "http") && !plainHost.MatchString(u.Host):
		return "must name a host in plain ASCII"
	case u.Scheme == "https":
		return ""
	case u.Scheme == "http" && slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname()):
		return ""
	case strings.Contains(u.Scheme, "."):
		return ""
	}
	return "must start with https://, or with http:// on localhost, or with a scheme that has a dot in it"
}

// createApp makes an app with its first secret.
func (s *Service) createApp(ctx context.Context, n newApp) (*app, error) {
	if err := n.check(s.ClientPrefix); err != nil {
		return nil, err
	}
	a := &app{Name: n.Name, Kind: n.Kind, RedirectURIs: n.RedirectURIs, Company: n.Company, ClientID: n.ClientID}
	if a.RedirectURIs == nil {
		a.RedirectURIs = []string{}
	}
	if !a.public() {
		a.ClientSecret = newSecret()
		a.secretHash = fingerprint(a.ClientSecret)
	}
	uris, err := json.Marshal(a.RedirectURIs)
	if err != nil {
		return nil, fmt.Errorf("create app: %w", err)
	}
	err = s.DB.Write(ctx, func(tx *sql.Tx) (err error) {
		if a.ID, err = nextID(ctx, tx, "apps"); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO apps (id, client_id, name, kind, company_id, redirect_uris, secret_hash, old_secret_hash, old_secret_until, created)
			VALUES ($1, $2, $3, $4, $5, $6, $7, '', 0, $8)`,
			a.ID, a.ClientID, a.Name, a.Kind, int64(a.Company), string(uris), a.secretHash, store.Micros(s.Now()))
		if err != nil {
			return err
		}
		return searchedApps.learn(ctx, tx, a.ID)
	})
	if store.IsDuplicate(err) {
		return nil, problem.New(problem.Conflict, "There is an app with the client id %s already.", a.ClientID).Because(err)
	}
	if err != nil {
		return nil, fmt.Errorf("create app: %w", err)
	}
	return a, nil
}

// redirectApp gives an app other redirect URIs.
func (s *Service) redirectApp(ctx context.Context, n newApp) (*app, error) {
	a, err := s.appByClientID(ctx, n.ClientID)
	if err != nil {
		return nil, err
	}
	if a == nil || a.Kind != n.Kind {
		return nil, problem.New(problem.Conflict, "There is another kind of app with the client id %s.", n.ClientID)
	}
	if slices.Equal(a.RedirectURIs, n.RedirectURIs) {
		return a, nil
	}
	uris, err := json.Marshal(n.RedirectURIs)
	if err == nil {
		err = s.DB.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE apps SET redirect_uris = $2 WHERE id = $1`, a.ID, string(uris))
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("change an app: %w", err)
	}
	a.RedirectURIs = n.RedirectURIs
	return a, nil
}

const appColumns = `id, client_id, name, kind, company_id, redirect_uris, secret_hash, old_secret_hash, old_secret_until`

func scanApp(scan func(...any) error) (*app, error) {
	var a app
	var uris string
	var companyID, oldUntil int64
	if err := scan(&a.ID, &a.ClientID, &a.Name, &a.Kind, &companyID, &uris, &a.secretHash, &a.oldSecretHash, &oldUntil); err != nil {
		return nil, err
	}
	a.Company, a.OldSecretUntil = company.ID(companyID), store.Time(oldUntil)
	if err := json.Unmarshal([]byte(uris), &a.RedirectURIs); err != nil {
		return nil, fmt.Errorf("read app %d: %w", a.ID, err)
	}
	a.SecretID = secretID(a.secretHash)
	return &a, nil
}

// secretID names a secret by its hash.
func secretID(hash string) string {
	if hash == "" {
		return ""
	}
	return fingerprint("secret id\n" + hash)[:16]
}

// appByClientID finds an app; nil if there is none.
func (s *Service) appByClientID(ctx context.Context, clientID string) (*app, error) {
	if !storable(clientID) {
		return nil, nil //nolint:nilnil // as below
	}
	return noApp(scanApp(s.DB.Read().QueryRowContext(ctx, `SELECT `+appColumns+` FROM apps WHERE client_id = $1`, clientID).Scan))
}

// appByID finds an app; nil if there is none.
func (s *Service) appByID(ctx context.Context, id int64) (*app, error) {
	return noApp(scanApp(s.DB.Read().QueryRowContext(ctx, `SELECT `+appColumns+` FROM apps WHERE id = $1`, id).Scan))
}

func noApp(a *app, err error) (*app, error) {
	if isNoRows(err) {
		return nil, nil //nolint:nilnil // that there is no such app is no error here
	}
	if err != nil {
		return nil, fmt.Errorf("read app: %w", err)
	}
	return a, nil
}

// apps lists a page of apps by id, and how many there are.
func (s *Service) apps(ctx context.Context, p paging.Page) (list []*app, total int, err error) {
	if err := s.DB.Read().QueryRowContext(ctx, `SELECT COUNT(*) FROM apps`).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count apps: %w", err)
	}
	list, err = s.selectApps(ctx, `ORDER BY id LIMIT $1 OFFSET $2`, p.Size, p.Offset())
	return list, total, err
}

// appsByClientID lists those of the apps that are there.
func (s *Service) appsByClientID(ctx context.Context, clientIDs []string) ([]*app, error) {
	marks, args := []string{}, []any{}
	for _, id := range clientIDs {
		if !storable(id) || len(args) == maxPageSize {
			return nil, problem.New(problem.BadRequest, "The parameter client_ids must be at most %d client ids with commas between them.", maxPageSize)
		}
		args = append(args, id)
		marks = append(marks, "$"+strconv.Itoa(len(args)))
	}
	return s.selectApps(ctx, `WHERE client_id IN (`+strings.Join(marks, ", ")+`) ORDER BY id`, args...)
}

func (s *Service) selectApps(ctx context.Context, which string, args ...any) (list []*app, err error) {
	rows, err := s.DB.Read().QueryContext(ctx, `SELECT `+appColumns+` FROM apps `+which, args...)
	if err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	list = []*app{}
	for rows.Next() {
		a, err := scanApp(rows.Scan)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

// maxOverlap is the longest time for which an old secret may stay valid.
const maxOverlap = 30 * 24 * time.Hour

// rotateSecret gives an app a new secret. The old one stays valid for the overlap. Whoever says which
// one they have seen in force replaces no other: a form that is sent twice would end the old one.
func (s *Service) rotateSecret(ctx context.Context, a *app, overlap time.Duration, seen string) error {
	if a.public() {
		return problem.New(problem.Invalid, "The app %s is a public client and has no secret.", a.Name)
	}
	if overlap < 0 || overlap > maxOverlap {
		return invalidFields("The secret can't be rotated", map[string][]string{"overlap_seconds": {"must be from 0 to 2592000 (30 days)"}})
	}
	stale := problem.New(problem.Conflict, "The app %s has a newer secret than the one that was in force when you looked. Look again, and make another one if you still want to: the one before it stays valid beside it, and no others.", a.ClientID)
	if seen != "" && seen != a.SecretID {
		return stale
	}
	a.ClientSecret = newSecret()
	hash := fingerprint(a.ClientSecret)
	until := int64(0)
	if overlap > 0 {
		until = store.Micros(s.Now().Add(overlap))
	}
	err := s.DB.Write(ctx, func(tx *sql.Tx) error {
		// The old secret is what stands in the row by now: of two rotations at once, the second
		// one keeps what the first one has just told somebody.
		done, err := tx.ExecContext(ctx, `UPDATE apps SET old_secret_hash = secret_hash, old_secret_until = $3, secret_hash = $2 WHERE id = $1 AND ($4 = '' OR secret_hash = $5)`,
			a.ID, hash, until, seen, a.secretHash)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, stale)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("rotate secret: %w", err)
	}
	a.SecretID, a.OldSecretUntil = secretID(hash), store.Time(until)
	return nil
}
