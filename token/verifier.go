package token

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

const (
	// maxToken bounds a token before anything is parsed. Ours have about 600 bytes.
	maxToken = 8 << 10
	// maxSkew is how far clocks of our machines may differ.
	maxSkew = time.Minute
)

// algorithms is the short list: "none", HMAC and everything else is refused before a key
// is looked at.
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES512, jose.EdDSA}

// The reasons for which a token is refused. They are in the log, as causes; clients hear
// that the token is invalid.
var (
	errMalformed = errors.New("it is not a token of ours")
	errKey       = errors.New("it names no key that we know")
	errSignature = errors.New("its signature is wrong")
	errIssuer    = errors.New("another environment made it")
	errExpired   = errors.New("it has expired")
	errNotYet    = errors.New("it was issued in the future")
	errRevoked   = errors.New("its grant is revoked")
)

// Verifier verifies access tokens of one environment, from public keys alone. It
// remembers tokens that it has verified, so that their signature is checked once.
type Verifier struct {
	issuer   string
	others   map[string]Environment
	follower *Follower
	now      func() time.Time
	shards   []shard
	perShard int // how many tokens a generation of a shard holds
}

const maxShards = 16

// shard remembers tokens by their SHA-256, in two generations: when the young one is
// full it becomes the old one, and what was old is forgotten.
type shard struct {
	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]*remembered
}

type remembered struct {
	claims Claims
	kid    string
}

// NewVerifier makes a verifier of tokens by this issuer. It remembers at most this many
// tokens; with 0 it checks every signature anew.
func NewVerifier(issuer string, f *Follower, remember int, now func() time.Time) *Verifier {
	shards := min(max(remember/2, 1), maxShards)
	return &Verifier{issuer: issuer, follower: f, now: now, shards: make([]shard, shards), perShard: remember / shards / 2}
}

// Environment is what a refusal says of another environment.
type Environment struct {
	// Name is what sentences call it, such as "the monthly sandbox".
	Name string
	// APIURL is the base URL of its API, LoginURL that of its login door.
	APIURL, LoginURL string
}

// Others tells the verifier of the other environments, by the issuer of their tokens, so
// that who comes to the wrong host hears of the right one. It is for the time before the
// first token is verified.
func (v *Verifier) Others(others map[string]Environment) { v.others = others }

// refuse answers for a token that is no good. Where it says that another environment made
// it, the answer says where it belongs. Nothing is believed of such a token but for that:
// nobody has checked its signature.
func (v *Verifier) refuse(raw string, cause error) error {
	var body jwtClaims
	if parts := strings.Split(raw, "."); len(parts) == 3 && len(v.others) > 0 {
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil {
			err = json.Unmarshal(payload, &body)
		}
		if other, ok := v.others[body.Issuer]; err == nil && ok {
			return problem.New(problem.WrongEnvironment, "The access token is invalid: it was issued by %s. This token belongs to %s: use %s", other.LoginURL, other.Name, other.APIURL).Because(cause)
		}
	}
	return invalid(cause)
}

// invalid is the one answer for a token that is no good (RFC 6750 section 3.1).
func invalid(cause error) error {
	return problem.New(problem.InvalidToken, "The access token is invalid").Because(cause)
}

// Verify answers the claims of a valid access token. Everything else is a problem
// [problem.InvalidToken], or [problem.WrongEnvironment] where the token says so, with the
// reason as its cause. The claims are shared: don't change them.
func (v *Verifier) Verify(raw string) (*Claims, error) {
	if len(raw) > maxToken {
		return nil, invalid(errMalformed)
	}
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(raw), len(raw))) // a conversion would copy
	s := &v.shards[int(sum[0])%len(v.shards)]
	known, fresh := s.get(sum, v.perShard), false
	if known == nil {
		claims, kid, err := v.check(raw)
		if err != nil {
			return nil, v.refuse(raw, err)
		}
		known, fresh = &remembered{*claims, kid}, true
	} else if _, ok := v.follower.key(known.kid); !ok {
		return nil, invalid(errKey) // the key was retired since
	}
	if !v.now().Before(known.claims.Expires) {
		return nil, invalid(errExpired)
	}
	if v.follower.isRevoked(known.claims.Grant) {
		return nil, invalid(errRevoked)
	}
	if fresh { // what is refused must not push out what is in use
		s.put(sum, known, v.perShard)
	}
	return &known.claims, nil
}

func (s *shard) get(sum [sha256.Size]byte, limit int) *remembered {
	s.mu.RLock()
	k, old := s.young[sum], (*remembered)(nil)
	if k == nil {
		old = s.old[sum]
	}
	s.mu.RUnlock()
	if old == nil {
		return k
	}
	s.put(sum, old, limit) // still in use: into the young generation, which stays bounded
	return old
}

func (s *shard) put(sum [sha256.Size]byte, k *remembered, limit int) {
	if limit == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.young[sum]; there {
		return // another call was faster
	}
	if s.young == nil || len(s.young) >= limit {
		s.young, s.old = map[[sha256.Size]byte]*remembered{}, s.young
	}
	s.young[sum] = k
}

// check does what is done once per token: everything but expiry and revocation.
func (v *Verifier) check(raw string) (*Claims, string, error) {
	// Compact form alone: the JSON form allows several signatures and headers.
	if strings.Count(raw, ".") != 2 || strings.ContainsAny(raw, "\r\n") {
		return nil, "", errMalformed
	}
	// The library is lenient: of the last character it leaves out bits, so that a token would
	// have several spellings.
	for part := range strings.SplitSeq(raw, ".") {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return nil, "", errMalformed
		}
	}
	jws, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errMalformed, err)
	}
	header := jws.Signatures[0].Protected
	key, ok := v.follower.key(header.KeyID)
	// The key says which algorithm it is for; the token's header has no say.
	if !ok || header.KeyID == "" || key.Algorithm != header.Algorithm {
		return nil, "", errKey
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errSignature, err)
	}
	// The library's own JSON: encoding/json would take "SUB" for "sub" and the last of two,
	// and a claim must stand there once (RFC 7519 section 4).
	var body jwtClaims
	if err := json.Unmarshal(payload, &body); err != nil {
		return nil, "", fmt.Errorf("%w: %w", errMalformed, err)
	}
	claims, err := body.read()
	if err != nil {
		return nil, "", err
	}
	if claims.Issuer != v.issuer {
		return nil, "", errIssuer
	}
	if claims.IssuedAt.After(v.now().Add(maxSkew)) {
		return nil, "", errNotYet
	}
	return claims, header.KeyID, nil
}

// read turns the payload into claims. All of them must be there.
func (b *jwtClaims) read() (*Claims, error) {
	c := &Claims{Issuer: b.Issuer, ClientID: b.ClientID, App: b.App, Grant: b.Grant, ID: b.ID}
	var err error
	if c.Subject, err = strconv.ParseInt(b.Subject, 10, 64); err != nil || c.Subject <= 0 || b.App <= 0 {
		return nil, errMalformed
	}
	for kind, name := range kindNames {
		if name == b.Kind {
			c.Kind = kind
		}
	}
	if b.Company != "" {
		if c.Company, err = company.ParseID(b.Company); err != nil {
			return nil, errMalformed
		}
	}
	if c.Kind == 0 || (c.Kind == rules.TraditionalToken) != (c.Company != 0) {
		return nil, errMalformed
	}
	if b.IssuedAt <= 0 || b.Expires <= 0 || b.Expires > math.MaxInt32*1000 || b.Grant == "" || b.ID == "" || b.ClientID == "" {
		return nil, errMalformed
	}
	c.IssuedAt, c.Expires = time.Unix(b.IssuedAt, 0), time.Unix(b.Expires, 0)
	return c, nil
}

// Bearer takes the access token from the Authorization header's values (RFC 6750 section
// 2.1). There must be one.
func Bearer(values []string) (string, error) {
	if len(values) == 0 {
		return "", problem.New(problem.MissingToken,
			"This call needs an access token: send the header \"Authorization: Bearer <access token>\".")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.TrimLeft(token, " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || !isB64Token(token) {
		return "", problem.New(problem.InvalidToken,
			"The access token is invalid: send the Authorization header once, as \"Bearer <access token>\".")
	}
	return token, nil
}

// isB64Token says whether a text holds what a b64token may (RFC 6750 section 2.1).
func isB64Token(s string) bool {
	for i := range len(s) {
		if !inToken[s[i]] {
			return false
		}
	}
	return true
}

// inToken are the bytes of a b64token.
var inToken = func() (in [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=") {
		in[c] = true
	}
	return in
}()
