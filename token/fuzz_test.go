package token

import (
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mpr/rules"
)

// A signed token is among the seeds: whatever is made of it, a token that is taken says
// what was signed.
func FuzzVerify(f *testing.F) {
	k, err := newKey("ES256", time.Now(), 0)
	if err != nil {
		f.Fatal(err)
	}
	follower := &Follower{}
	follower.keys.Store(&map[string]jose.JSONWebKey{k.KID: k.public})
	ring := &Ring{options: RingOptions{Now: time.Now}}
	ring.keys.Store(&[]*signingKey{k})
	now := time.Now().Truncate(time.Second)
	signed := Claims{Issuer: issuer, Subject: 42, ClientID: "client", App: 3, Kind: rules.UserToken, Grant: "g", ID: "j", IssuedAt: now, Expires: now.Add(time.Hour)}
	good, err := ring.Sign(signed)
	if err != nil {
		f.Fatal(err)
	}
	parts := strings.Split(good, ".")
	for _, s := range []string{
		good, "", "..", "a.b.c", good + ".", good + "=", "." + good, parts[0] + "." + parts[1] + ".", parts[0] + ".." + parts[2],
		encode(`{"alg":"none"}`) + "." + encode(`{"sub":"1"}`) + ".",
		encode(`{"alg":"HS256","kid":"`+k.KID+`"}`) + "." + encode(`{}`) + ".AAAA",
		encode(`{"alg":"ES256","alg":"none","kid":"`+k.KID+`"}`) + "." + parts[1] + "." + parts[2],
		encode(`{"alg":"ES256","kid":"`+k.KID+`","crit":["exp"]}`) + "." + parts[1] + "." + parts[2],
		parts[0] + "." + encode(`{"iss":"https://login.procore.com","sub":"1","app":1,"kind":"user","exp":9999999999}`) + "." + strings.Repeat("A", 86),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		v := NewVerifier(issuer, follower, 2, time.Now)
		for range 2 { // checked, then remembered
			if c, err := v.Verify(raw); err == nil && *c != signed {
				t.Fatalf("a token that nobody signed is valid: %+v", c)
			}
		}
	})
}
