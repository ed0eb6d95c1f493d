package token

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mpr/problem"
	"mpr/test/await"
)

func (w *world) options(algorithm string) RingOptions {
	return RingOptions{Algorithm: algorithm, Delay: 5 * time.Second, Lifetime: time.Hour, Now: w.clock.now}
}

func TestServicesThatStartTogetherAgreeOnTheFirstKey(t *testing.T) {
	w := newWorld(t, "ES256")
	keys := openKeyTable(t)
	rings := make([]*Ring, 8)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			r, err := NewRing(t.Context(), keys, w.buckets, w.options("ES256"))
			if err != nil {
				t.Error(err)
				return
			}
			rings[i] = r
		})
	}
	wg.Wait()
	for _, r := range rings {
		if r == nil {
			continue
		}
		if k := r.Keys(); len(k) != 1 || k[0].KID != rings[0].Keys()[0].KID {
			t.Errorf("keys %v", k)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKeysSurviveARestartAndANewAlgorithm(t *testing.T) {
	w := newWorld(t, "ES256")
	old := w.sign(t, w.claims())
	if err := w.ring.Close(); err != nil {
		t.Fatal(err)
	}
	again := w.newRing(t, "ES512") // the configuration was changed meanwhile
	if k := again.Keys(); len(k) != 1 || k[0].Algorithm != "ES256" {
		t.Fatalf("after a restart: %v", k)
	}
	for _, algorithm := range []string{"ES512", "EdDSA"} {
		r := w.newRing(t, algorithm)
		kid, _, err := r.Rotate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.clock.advance(6 * time.Second)
		raw, err := r.Sign(w.claims())
		if err != nil || signedBy(t, raw) != kid {
			t.Fatalf("signed by %s, %v; want %s", signedBy(t, raw), err, kid)
		}
		await.That(t, "the key arrives", func() bool { _, ok := w.follower.key(kid); return ok })
		for _, raw := range []string{old, raw} {
			if _, err := w.verifier.Verify(raw); err != nil {
				t.Errorf("%s: %v", algorithm, err)
			}
		}
	}
}

func TestPublishedKeysArePublic(t *testing.T) {
	w := newWorld(t, "ES256")
	kid, _, err := w.ring.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := w.ring.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	announced := false
	for _, k := range set.Keys {
		if _, private := k["d"]; private || k["use"] != "sig" || k["alg"] != "ES256" || k["kid"] == "" {
			t.Errorf("published: %v", k)
		}
		announced = announced || k["kid"] == kid // before it signs
	}
	if len(set.Keys) != 2 || !announced {
		t.Errorf("%d keys are published", len(set.Keys))
	}
}

// A key that no verifier can know must never sign.
func TestKeyThatCantBeAnnouncedIsntKept(t *testing.T) {
	w := newWorld(t, "ES256")
	w.nc.Close()
	if _, _, err := w.ring.Rotate(t.Context()); !errors.Is(err, problem.New(problem.DirectoryUnavailable, "")) {
		t.Errorf("Rotate without the directory: %v", err)
	}
	list, err := w.keys.SigningKeys(context.Background())
	if err != nil || len(list) != 1 {
		t.Errorf("%d keys are kept, %v", len(list), err)
	}
	if _, err := w.ring.Sign(w.claims()); err != nil {
		t.Errorf("Sign without the directory: %v", err)
	}
}

func TestUnknownAlgorithmsAreRefused(t *testing.T) {
	w := newWorld(t, "ES256")
	for _, algorithm := range []string{"", "none", "HS256", "RS256", "es256"} {
		if r, err := NewRing(t.Context(), openKeyTable(t), w.buckets, w.options(algorithm)); err == nil {
			t.Errorf("a ring for %q", algorithm)
			_ = r.Close()
		}
	}
}

// RFC 7519 section 4: a claim stands in a token once. Only a key of ours could sign such a
// token, so this guards against a second program that does.
func TestTokensOfOursMustBeWellFormed(t *testing.T) {
	w := newWorld(t, "ES256")
	k := stored(t, w.keys)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: mustPrivate(t, k.PEM), KeyID: k.KID}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(payload string) string {
		jws, err := signer.Sign([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	const rest = `"iss":"https://login.procore.com","client_id":"c","app":3,"kind":"user","grant":"g","jti":"j","iat":1700000000,"exp":9999999999`
	if _, err := w.verifier.Verify(sign(`{"sub":"42",` + rest + `}`)); err != nil {
		t.Fatalf("the token that the others differ from: %v", err)
	}
	for _, payload := range []string{
		`{"sub":"42","sub":"43",` + rest + `}`,
		`{"SUB":"42",` + rest + `}`,
		`{"sub":42,` + rest + `}`,
		`{"sub":"-42",` + rest + `}`,
		`{"sub":"9223372036854775808",` + rest + `}`,
		`{"sub":"42","company":"7",` + rest + `}`,
		`{"sub":"42","company":7,` + rest + `}`,
		`{"sub":"42",` + rest + `} {}`,
		`["sub"]`, `null`, ``, `hello`,
	} {
		if c, err := w.verifier.Verify(sign(payload)); !errors.Is(err, problem.New(problem.InvalidToken, "")) {
			t.Errorf("%s: %+v, %v", payload, c, err)
		}
	}
}
