package token

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mpr/problem"
	"mpr/rules"
)

// StoredKey is a signing key as the identity store keeps it.
type StoredKey struct {
	KID       string
	Algorithm string
	// PEM is the private key, PKCS #8.
	PEM     []byte
	Created time.Time
	// SignsFrom is when the key takes over from the one before it.
	SignsFrom time.Time
}

// KeyStore is where signing keys are kept. Several login services share one.
type KeyStore interface {
	// SigningKeys lists all keys.
	SigningKeys(context.Context) ([]StoredKey, error)
	// AddSigningKey adds a key. With first it adds nothing where there is a key already,
	// which is no error.
	AddSigningKey(ctx context.Context, key StoredKey, first bool) error
	// DeleteSigningKey deletes a key; that it is gone already is no error.
	DeleteSigningKey(ctx context.Context, kid string) error
}

// Announcer makes public keys known to verifiers. [Buckets] is one.
type Announcer interface {
	AnnounceKey(context.Context, jose.JSONWebKey) error
	RetireKey(ctx context.Context, kid string) error
}

// RingOptions say how a ring makes keys.
type RingOptions struct {
	// Algorithm of new keys: ES256, ES512 or EdDSA.
	Algorithm string
	// Delay is how long a new key is announced before it signs, so that every verifier
	// knows it by then.
	Delay time.Duration
	// Lifetime is the longest life of an access token: how long a key is still published
	// after it has signed for the last time.
	Lifetime time.Duration
	Now      func() time.Time
}

// Ring holds the signing keys of an environment. It re-reads the store every second, so
// that all login services that share a store sign with the same key.
type Ring struct {
	store     KeyStore
	announcer Announcer
	options   RingOptions
	keys      atomic.Pointer[[]*signingKey] // by SignsFrom
	announced map[string]bool               // kids; touched by refresh alone
	refreshes sync.Mutex
	cancel    context.CancelFunc
	done      sync.WaitGroup
}

type signingKey struct {
	StoredKey
	public jose.JSONWebKey
	signer jose.Signer
}

// KeyInfo describes a signing key; never its private part.
type KeyInfo struct {
	KID       string    `json:"kid"`
	Algorithm string    `json:"algorithm"`
	Created   time.Time `json:"created"`
	SignsFrom time.Time `json:"signs_from"`
	// RetiredAt is when the last token that it signed has expired; the zero time while
	// no other key follows.
	RetiredAt time.Time `json:"retired_at,omitzero"`
}

const ringRefresh = time.Second

// NewRing opens the ring and makes the first key where the store has none.
func NewRing(ctx context.Context, store KeyStore, announcer Announcer, o RingOptions) (*Ring, error) {
	r := &Ring{store: store, announcer: announcer, options: o, announced: map[string]bool{}}
	stored, err := store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	if len(stored) == 0 {
		first, err := newKey(o.Algorithm, o.Now(), 0)
		if err != nil {
			return nil, err
		}
		if err := store.AddSigningKey(ctx, first.StoredKey, true); err != nil {
			return nil, fmt.Errorf("keep the first signing key: %w", err)
		}
	}
	if err := r.refresh(ctx); err != nil {
		if r.keys.Load() == nil {
			return nil, err
		}
		slog.Warn("public keys can't be announced yet", "error", err)
	}
	background, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.done.Go(func() {
		t := time.NewTicker(ringRefresh)
		defer t.Stop()
		var told problem.Told
		for {
			select {
			case <-background.Done():
				return
			case <-t.C:
				if err := r.refresh(background); told.Anew(err) && background.Err() == nil {
					slog.Warn("refresh the signing keys; trying again until that succeeds", "error", err)
				}
			}
		}
	})
	return r, nil
}

// Close ends the refreshing.
func (r *Ring) Close() error {
	r.cancel()
	r.done.Wait()
	return nil
}

// refresh reads the store, announces what verifiers may not know yet and retires what no
// living token was signed with.
func (r *Ring) refresh(ctx context.Context) error {
	r.refreshes.Lock()
	defer r.refreshes.Unlock()
	stored, err := r.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("read the signing keys: %w", err)
	}
	keys := make([]*signingKey, 0, len(stored))
	known := map[string]*signingKey{}
	if old := r.keys.Load(); old != nil {
		for _, k := range *old {
			known[k.KID] = k
		}
	}
	for _, s := range stored {
		k := known[s.KID]
		if k == nil {
			if k, err = openKey(s); err != nil {
				return err
			}
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return errors.New("the store has no signing key")
	}
	// All services must take the same key, also of two made at the same time.
	slices.SortFunc(keys, func(a, b *signingKey) int {
		return cmp.Or(a.SignsFrom.Compare(b.SignsFrom), cmp.Compare(a.KID, b.KID))
	})
	expired := 0
	for expired < len(keys)-1 && !r.options.Now().Before(r.retiredAt(keys, expired)) {
		expired++
	}
	live := keys[expired:]
	r.keys.Store(&live)
	return errors.Join(r.retire(ctx, keys[:expired]), r.announce(ctx, live))
}

// Announce announces all keys again, for verifiers that have lost them.
func (r *Ring) Announce(ctx context.Context) error {
	r.refreshes.Lock()
	defer r.refreshes.Unlock()
	clear(r.announced)
	return r.announce(ctx, *r.keys.Load())
}

func (r *Ring) announce(ctx context.Context, keys []*signingKey) error {
	var errs []error
	for _, k := range keys {
		if r.announced[k.KID] {
			continue
		}
		err := r.announcer.AnnounceKey(ctx, k.public)
		r.announced[k.KID] = err == nil
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *Ring) retire(ctx context.Context, keys []*signingKey) error {
	for _, k := range keys {
		if err := r.announcer.RetireKey(ctx, k.KID); err != nil {
			return err
		}
		if err := r.store.DeleteSigningKey(ctx, k.KID); err != nil {
			return fmt.Errorf("delete the signing key %s: %w", k.KID, err)
		}
		delete(r.announced, k.KID)
	}
	return nil
}

// retiredAt is when the last token that the key signed has expired; the zero time for
// the last key.
func (r *Ring) retiredAt(keys []*signingKey, i int) time.Time {
	if i == len(keys)-1 {
		return time.Time{}
	}
	// Other login services may be a refresh behind, and clocks differ.
	return keys[i+1].SignsFrom.Add(r.options.Lifetime + ringRefresh + maxSkew)
}

// Rotate makes a new key. It is announced at once and signs after the delay; the old key
// stays published until the last token that it signed has expired.
func (r *Ring) Rotate(ctx context.Context) (kid string, signsFrom time.Time, err error) {
	k, err := newKey(r.options.Algorithm, r.options.Now(), r.options.Delay)
	if err != nil {
		return "", time.Time{}, err
	}
	// Announced before it is kept: a key that nobody can verify must never sign.
	if err := r.announcer.AnnounceKey(ctx, k.public); err != nil {
		return "", time.Time{}, err
	}
	if err := r.store.AddSigningKey(ctx, k.StoredKey, false); err != nil {
		return "", time.Time{}, fmt.Errorf("keep a new signing key: %w", err)
	}
	return k.KID, k.SignsFrom, r.refresh(ctx)
}

// Sign mints an access token: a JWT (RFC 7519).
func (r *Ring) Sign(c Claims) (string, error) {
	keys := *r.keys.Load()
	now := r.options.Now()
	current := keys[0]
	for _, k := range keys[1:] {
		if !k.SignsFrom.After(now) {
			current = k
		}
	}
	body := jwtClaims{
		Issuer: c.Issuer, Subject: strconv.FormatInt(c.Subject, 10), ClientID: c.ClientID, App: c.App,
		Kind: kindNames[c.Kind], Grant: c.Grant, ID: c.ID, IssuedAt: c.IssuedAt.Unix(), Expires: c.Expires.Unix(),
	}
	if c.Company != 0 {
		body.Company = c.Company.String()
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	signed, err := current.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed.CompactSerialize()
}

// JWKS is the set of public keys (RFC 7517 section 5), as JSON.
func (r *Ring) JWKS() ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, k := range *r.keys.Load() {
		set.Keys = append(set.Keys, k.public)
	}
	return json.Marshal(set)
}

// Keys describes all keys that verifiers know, the oldest first.
func (r *Ring) Keys() []KeyInfo {
	keys := *r.keys.Load()
	infos := make([]KeyInfo, len(keys))
	for i, k := range keys {
		infos[i] = KeyInfo{k.KID, k.Algorithm, k.Created, k.SignsFrom, r.retiredAt(keys, i)}
	}
	return infos
}

// jwtClaims is the payload of an access token.
type jwtClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	ClientID string `json:"client_id"`
	App      int64  `json:"app"`
	Kind     string `json:"kind"`
	Company  string `json:"company,omitempty"`
	Grant    string `json:"grant"`
	ID       string `json:"jti"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

var kindNames = map[rules.TokenKind]string{
	rules.UserToken:             "user",
	rules.TraditionalToken:      "traditional",
	rules.DeveloperManagedToken: "developer_managed",
}

// newKey makes a key that signs from now on, or later.
func newKey(algorithm string, now time.Time, delay time.Duration) (*signingKey, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case string(jose.ES256):
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case string(jose.ES512):
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case string(jose.EdDSA):
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("make a signing key: unknown algorithm %q: use ES256, ES512 or EdDSA", algorithm)
	}
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	// The thumbprint (RFC 7638) names the key: the same key has the same name everywhere.
	thumbprint, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return openKey(StoredKey{
		KID:       base64.RawURLEncoding.EncodeToString(thumbprint),
		Algorithm: algorithm,
		PEM:       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		Created:   now,
		SignsFrom: now.Add(delay),
	})
}

func openKey(s StoredKey) (*signingKey, error) {
	block, _ := pem.Decode(s.PEM)
	if block == nil {
		return nil, fmt.Errorf("the signing key %s in the store is no PEM", s.KID)
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the signing key %s in the store: %w", s.KID, err)
	}
	signerKey, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the signing key %s in the store can't sign", s.KID)
	}
	algorithm := jose.SignatureAlgorithm(s.Algorithm)
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: private, KeyID: s.KID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("the signing key %s in the store: %w", s.KID, err)
	}
	public := jose.JSONWebKey{Key: signerKey.Public(), KeyID: s.KID, Algorithm: s.Algorithm, Use: "sig"}
	return &signingKey{StoredKey: s, public: public, signer: signer}, nil
}
