package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/directory"
	"mpr/problem"
	"mpr/rules"
	"mpr/store"
	"mpr/test/await"
	"mpr/test/engine"
)

const issuer = "https://login.procore.com"

// keyTable keeps signing keys in a database, as the identity store does.
type keyTable struct{ db *store.DB }

func openKeyTable(t testing.TB) keyTable {
	t.Helper()
	db, err := store.Open(t.Context(), engine.Store(t), fstest.MapFS{"00001_keys.sql": {Data: []byte(`-- +goose Up
CREATE TABLE signing_keys (kid TEXT PRIMARY KEY, algorithm TEXT NOT NULL, pem TEXT NOT NULL, created BIGINT NOT NULL, signs_from BIGINT NOT NULL);
`)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return keyTable{db}
}

func (k keyTable) SigningKeys(ctx context.Context) (keys []StoredKey, err error) {
	rows, err := k.db.Read().QueryContext(ctx, `SELECT kid, algorithm, pem, created, signs_from FROM signing_keys`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s StoredKey
		var pem string
		var created, from int64
		if err := rows.Scan(&s.KID, &s.Algorithm, &pem, &created, &from); err != nil {
			return nil, err
		}
		s.PEM, s.Created, s.SignsFrom = []byte(pem), store.Time(created), store.Time(from)
		keys = append(keys, s)
	}
	return keys, rows.Err()
}

func (k keyTable) AddSigningKey(ctx context.Context, s StoredKey, first bool) error {
	return k.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO signing_keys (kid, algorithm, pem, created, signs_from)
			SELECT $1, $2, $3, $4, $5 WHERE NOT $6 OR NOT EXISTS (SELECT 1 FROM signing_keys)`,
			s.KID, s.Algorithm, string(s.PEM), store.Micros(s.Created), store.Micros(s.SignsFrom), first)
		return err
	})
}

func (k keyTable) DeleteSigningKey(ctx context.Context, kid string) error {
	return k.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM signing_keys WHERE kid = $1`, kid)
		return err
	})
}

// clock is a time that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// world is a login service's ring and a gateway's verifier over one directory server.
type world struct {
	clock    *clock
	nc       *nats.Conn
	keys     keyTable
	buckets  *Buckets
	ring     *Ring
	follower *Follower
	verifier *Verifier
}

func newWorld(t testing.TB, algorithm string) *world {
	t.Helper()
	s, err := directory.StartServer(directory.ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w := &world{clock: &clock{}, keys: openKeyTable(t)}
	if w.nc, err = s.Connect("test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nc.Close)
	if w.buckets, err = OpenBuckets(t.Context(), w.nc, "production", 1); err != nil {
		t.Fatal(err)
	}
	w.ring = w.newRing(t, algorithm)
	if w.follower, err = Follow(t.Context(), w.nc, "production", filepath.Join(t.TempDir(), "keys")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.follower.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := w.follower.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.verifier = NewVerifier(issuer, w.follower, 100, w.clock.now)
	return w
}

func (w *world) newRing(t testing.TB, algorithm string) *Ring {
	t.Helper()
	r, err := NewRing(t.Context(), w.keys, w.buckets, RingOptions{Algorithm: algorithm, Delay: 5 * time.Second, Lifetime: time.Hour, Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (w *world) claims() Claims {
	now := w.clock.now().Truncate(time.Second)
	return Claims{Issuer: issuer, Subject: 42, ClientID: "client", App: 3, Kind: rules.UserToken, Grant: "grant-1", ID: "token-1", IssuedAt: now, Expires: now.Add(time.Hour)}
}

func (w *world) sign(t testing.TB, c Claims) string {
	t.Helper()
	raw, err := w.ring.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTokensOfEveryAlgorithmVerify(t *testing.T) {
	for _, algorithm := range []string{"ES256", "ES512", "EdDSA"} {
		w := newWorld(t, algorithm)
		for _, c := range []Claims{
			w.claims(),
			func() Claims {
				c := w.claims()
				c.Kind, c.Company = rules.TraditionalToken, company.ID(598134325779301)
				return c
			}(),
			func() Claims { c := w.claims(); c.Kind = rules.DeveloperManagedToken; return c }(),
		} {
			raw := w.sign(t, c)
			header, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[0])
			if err != nil || !strings.Contains(string(header), `"typ":"JWT"`) || !strings.Contains(string(header), `"alg":"`+algorithm+`"`) {
				t.Errorf("header %s, %v", header, err)
			}
			for range 2 { // checked, then remembered
				got, err := w.verifier.Verify(raw)
				if err != nil || *got != c {
					t.Errorf("%s: %+v, %v; want %+v", algorithm, got, err, c)
				}
			}
		}
	}
}

// forge signs a payload as an attacker would.
func forge(t *testing.T, algorithm jose.SignatureAlgorithm, key any, kid string, payload any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestForgedTokensAreRefused(t *testing.T) {
	w := newWorld(t, "ES256")
	good := w.sign(t, w.claims())
	parts := strings.Split(good, ".")
	kid := w.ring.Keys()[0].KID
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	body := jwtClaims{Issuer: issuer, Subject: "42", ClientID: "client", App: 3, Kind: "user", Grant: "g", ID: "j",
		IssuedAt: time.Now().Unix(), Expires: time.Now().Add(time.Hour).Unix()}
	public, err := (*w.ring.keys.Load())[0].public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{
		"empty":                 "",
		"words":                 "not a token",
		"dots":                  "..",
		"alg none":              encode(`{"alg":"none","typ":"JWT","kid":"`+kid+`"}`) + "." + parts[1] + ".",
		"alg none, signed":      encode(`{"alg":"none","typ":"JWT","kid":"`+kid+`"}`) + "." + parts[1] + "." + parts[2],
		"alg None":              encode(`{"alg":"None","kid":"`+kid+`"}`) + "." + parts[1] + ".",
		"public key as HMAC":    forge(t, jose.HS256, public, kid, body),
		"stranger's key":        forge(t, jose.ES256, stranger, kid, body),
		"stranger's kid":        forge(t, jose.ES256, stranger, "other", body),
		"no kid":                forge(t, jose.ES256, stranger, "", body),
		"another spelling":      good[:len(good)-1] + string(good[len(good)-1]+1),
		"a line break":          good[:len(good)-9] + "\n" + good[len(good)-9:],
		"no signature":          parts[0] + "." + parts[1] + ".",
		"changed payload":       parts[0] + "." + encode(strings.Replace(string(payload), `"sub":"42"`, `"sub":"43"`, 1)) + "." + parts[2],
		"another algorithm":     encode(`{"alg":"ES512","kid":"`+kid+`"}`) + "." + parts[1] + "." + parts[2],
		"a fourth part":         good + ".x",
		"space after":           good + " ",
		"JSON form":             fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2]),
		"oversized":             good + strings.Repeat("A", maxToken),
		"critical header":       encode(`{"alg":"ES256","kid":"`+kid+`","crit":["x"],"x":1}`) + "." + parts[1] + "." + parts[2],
		"key within the header": encode(`{"alg":"ES256","jwk":`+string(public)+`}`) + "." + parts[1] + "." + parts[2],
	} {
		if c, err := w.verifier.Verify(raw); !errors.Is(err, problem.New(problem.InvalidToken, "")) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

func TestWrongClaimsAreRefused(t *testing.T) {
	w := newWorld(t, "ES256")
	for name, change := range map[string]func(*Claims){
		"another issuer":          func(c *Claims) { c.Issuer = "https://login-sandbox.procore.com" },
		"expired":                 func(c *Claims) { c.Expires = w.clock.now().Add(-time.Second) },
		"issued in the future":    func(c *Claims) { c.IssuedAt = w.clock.now().Add(2 * maxSkew) },
		"no subject":              func(c *Claims) { c.Subject = 0 },
		"no app":                  func(c *Claims) { c.App = 0 },
		"no kind":                 func(c *Claims) { c.Kind = 0 },
		"no grant":                func(c *Claims) { c.Grant = "" },
		"no id":                   func(c *Claims) { c.ID = "" },
		"traditional, no company": func(c *Claims) { c.Kind = rules.TraditionalToken },
		"user with a company":     func(c *Claims) { c.Company = 7 },
		"no expiry":               func(c *Claims) { c.Expires = time.Unix(0, 0) },
	} {
		c := w.claims()
		change(&c)
		if _, err := w.verifier.Verify(w.sign(t, c)); !errors.Is(err, problem.New(problem.InvalidToken, "")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// "This token belongs to ...": what a token says of itself is believed for the hint alone.
func TestTokensOfOtherEnvironments(t *testing.T) {
	w := newWorld(t, "ES256")
	const sandbox = "https://login-sandbox-monthly.procore.com"
	w.verifier.Others(map[string]Environment{sandbox: {"the monthly sandbox", "https://api-monthly.procore.com", sandbox}})
	c := w.claims()
	c.Issuer = sandbox
	of := w.sign(t, c)
	parts := strings.Split(of, ".")
	for name, raw := range map[string]string{
		"signed by our key":   of,
		"of a stranger's key": strings.Join([]string{base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"other"}`)), parts[1], parts[2]}, "."),
		"expired":             func() string { c.Expires = w.clock.now().Add(-time.Hour); return w.sign(t, c) }(),
	} {
		_, err := w.verifier.Verify(raw)
		p := problem.From(err)
		if p.Code != problem.WrongEnvironment || !strings.Contains(p.Message, "This token belongs to the monthly sandbox: use https://api-monthly.procore.com") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, raw := range map[string]string{
		"no payload":     parts[0] + ".!!." + parts[2],
		"no JSON":        parts[0] + ".AAAA." + parts[2],
		"nobody's":       strings.Join([]string{parts[0], base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://evil.example"}`)), parts[2]}, "."),
		"two parts":      parts[0] + "." + parts[1],
		"bytes at large": of + strings.Repeat("A", maxToken),
	} {
		if _, err := w.verifier.Verify(raw); problem.From(err).Code != problem.InvalidToken || strings.Contains(problem.From(err).Message, "http") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRememberedTokensExpireAndAreRevoked(t *testing.T) {
	w := newWorld(t, "ES256")
	first := w.claims()
	second := w.claims()
	second.Grant = "grant-2"
	one, two := w.sign(t, first), w.sign(t, second)
	for _, raw := range []string{one, two} {
		if _, err := w.verifier.Verify(raw); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // repeating it changes nothing
		if err := w.buckets.Revoke(t.Context(), "grant-1", first.Expires); err != nil {
			t.Fatal(err)
		}
	}
	await.That(t, "the revocation arrives", func() bool { _, err := w.verifier.Verify(one); return errors.Is(err, errRevoked) })
	if _, err := w.verifier.Verify(two); err != nil {
		t.Errorf("another grant: %v", err)
	}
	w.clock.advance(time.Hour)
	if _, err := w.verifier.Verify(two); !errors.Is(err, errExpired) {
		t.Errorf("after its life: %v", err)
	}
	w.follower.forget(w.clock.now().Add(3 * maxSkew))
	if w.follower.isRevoked("grant-1") {
		t.Error("a revocation that no longer matters is kept")
	}
}

func TestRotationBreaksNoToken(t *testing.T) {
	w := newWorld(t, "ES256")
	other := w.newRing(t, "ES256") // a second login service on the same store
	old := w.sign(t, w.claims())
	oldKey := w.ring.Keys()[0].KID
	kid, from, err := w.ring.Rotate(t.Context())
	if err != nil || from.Before(w.clock.now().Add(4*time.Second)) {
		t.Fatalf("Rotate: %v, %v", from, err)
	}
	if got := signedBy(t, w.sign(t, w.claims())); got != oldKey {
		t.Errorf("the new key signs before it is known everywhere: %s", got)
	}
	await.That(t, "the second service sees the key", func() bool { return len(other.Keys()) == 2 })
	w.clock.advance(6 * time.Second)
	for _, r := range []*Ring{w.ring, other} {
		raw, err := r.Sign(w.claims())
		if err != nil || signedBy(t, raw) != kid {
			t.Errorf("signed by %s, %v; want %s", signedBy(t, raw), err, kid)
		}
		if _, err := w.verifier.Verify(raw); err != nil {
			t.Errorf("token of the new key: %v", err)
		}
	}
	if _, err := w.verifier.Verify(old); err != nil {
		t.Errorf("token of the old key: %v", err)
	}
	w.clock.advance(2 * time.Hour)
	await.That(t, "the old key is retired everywhere", func() bool {
		_, known := w.follower.key(oldKey)
		return len(w.ring.Keys()) == 1 && len(other.Keys()) == 1 && !known
	})
}

func signedBy(t *testing.T, raw string) string {
	t.Helper()
	jws, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		t.Fatal(err)
	}
	return jws.Signatures[0].Protected.KeyID
}

func TestFollowerStartsFromItsFileWithoutTheDirectory(t *testing.T) {
	w := newWorld(t, "ES256")
	raw := w.sign(t, w.claims())
	revoked := w.claims()
	revoked.Grant = "grant-2"
	rawRevoked := w.sign(t, revoked)
	if err := w.buckets.Revoke(t.Context(), "grant-2", revoked.Expires); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the revocation arrives", func() bool { return w.follower.isRevoked("grant-2") })
	if err := w.follower.save(); err != nil {
		t.Fatal(err)
	}
	away, err := directory.Connect([]string{"nats://127.0.0.1:1"}, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(away.Close)
	f, err := Follow(t.Context(), away, "production", w.follower.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // nothing has changed
	if err := f.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(issuer, f, 10, w.clock.now)
	if _, err := v.Verify(raw); err != nil {
		t.Errorf("from the file: %v", err)
	}
	if _, err := v.Verify(rawRevoked); !errors.Is(err, errRevoked) {
		t.Errorf("a revocation from the file: %v", err)
	}
}

func TestRememberingIsBoundedAndAllocatesNothing(t *testing.T) {
	w := newWorld(t, "EdDSA")
	const limit = 64
	v := NewVerifier(issuer, w.follower, limit, w.clock.now)
	var raws []string
	for i := range 4 * limit {
		c := w.claims()
		c.ID = fmt.Sprint(i)
		raws = append(raws, w.sign(t, c))
		if _, err := v.Verify(raws[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(raws[i/2]); err != nil { // keeps some alive across generations
			t.Fatal(err)
		}
	}
	held := 0
	for i := range v.shards {
		held += len(v.shards[i].young) + len(v.shards[i].old)
	}
	if held > 2*limit {
		t.Errorf("%d tokens are remembered, the limit is %d", held, limit)
	}
	last := raws[len(raws)-1]
	if n := testing.AllocsPerRun(1000, func() { _, _ = v.Verify(last) }); n != 0 {
		t.Errorf("a remembered token allocates %v times", n)
	}
}

func TestBearer(t *testing.T) {
	for _, value := range []string{"Bearer abc", "bearer abc", "BEARER  abc"} {
		if got, err := Bearer([]string{value}); got != "abc" || err != nil {
			t.Errorf("%q: %q, %v", value, got, err)
		}
	}
	for _, values := range [][]string{{""}, {"Bearer"}, {"Bearer "}, {"Basic abc"}, {"abc"}, {"Bearer a b"}, {"Bearer a,Bearer b"}, {"Bearer a\x00"}, {"Bearer a\"b"}, {"Bearer é"}, {"Bearer a", "Bearer a"}, {"Bearer a", "Basic b"}} {
		if got, err := Bearer(values); !errors.Is(err, problem.New(problem.InvalidToken, "")) {
			t.Errorf("%q: %q, %v", values, got, err)
		}
	}
	if _, err := Bearer(nil); !errors.Is(err, problem.New(problem.MissingToken, "")) {
		t.Errorf("no header: %v", err)
	}
}

func FuzzBearer(f *testing.F) {
	for _, s := range []string{"Bearer abc", "bearer  x", "Basic x", "", " ", "Bearer\tx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token, err := Bearer([]string{s})
		if err == nil && (token == "" || !strings.HasSuffix(s, token) || !strings.EqualFold(s[:6], "bearer")) {
			t.Fatalf("Bearer(%q) = %q", s, token)
		}
	})
}
