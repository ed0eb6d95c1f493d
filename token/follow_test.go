package token

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/nats-io/nats.go"

	"mpr/directory"
	"mpr/test/await"
)

// "Revocation reaches every gateway in under a second": over connections of their own, and
// with the directory's server restarted in between.
func TestRevocationReachesAVerifierInUnderASecond(t *testing.T) {
	w := newWorld(t, "ES256")
	dir := t.TempDir()
	s := listen(t, dir, "127.0.0.1:0")
	address := s.Addr()
	nc := connect(t, address)
	await.That(t, "connected", nc.IsConnected)
	login, err := OpenBuckets(t.Context(), nc, "production", 1)
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := Follow(t.Context(), connect(t, address), "production", filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close() //nolint:errcheck // the test is over
	if err := gateway.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	until := w.claims().Expires
	revoke := func(grant string) error { return login.Revoke(t.Context(), grant, until) }

	begin := time.Now()
	if err := revoke("before"); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the revocation arrives", func() bool { return gateway.isRevoked("before") })
	if took := time.Since(begin); took > time.Second {
		t.Errorf("a revocation took %s", took)
	}

	s.Close()
	await.That(t, "the loss is noticed", func() bool { return revoke("lost") != nil })
	listen(t, dir, address)
	await.That(t, "the directory takes writes again", func() bool { return revoke("after") == nil })
	begin = time.Now()
	await.That(t, "the revocation arrives", func() bool { return gateway.isRevoked("after") })
	if took := time.Since(begin); took > time.Second {
		t.Errorf("after a restart of the directory a revocation took %s", took)
	}
	if !gateway.isRevoked("before") {
		t.Error("a revocation was forgotten")
	}
}

const secret = "a long enough secret"

func listen(t *testing.T, dir, address string) *directory.Server {
	t.Helper()
	s, err := directory.StartServer(directory.ServerOptions{Dir: dir, Listen: address, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t *testing.T, address string) *nats.Conn {
	t.Helper()
	nc, err := directory.Connect([]string{"nats://" + address}, secret, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// A key that was retired while a gateway was away must not live on in the gateway's copy.
func TestRetiredKeyDoesntLiveOnInACopy(t *testing.T) {
	w := newWorld(t, "ES256")
	kid := w.ring.Keys()[0].KID
	file := w.follower.file
	if err := w.follower.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.ring.Close(); err != nil { // it would announce its key again
		t.Fatal(err)
	}
	if err := w.buckets.RetireKey(t.Context(), kid); err != nil {
		t.Fatal(err)
	}
	f, err := Follow(t.Context(), w.nc, "production", file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // the test is over
	if err := f.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.key(kid); ok {
		t.Error("the retired key is known")
	}
}

func TestDamagedCopyIsLeftOut(t *testing.T) {
	w := newWorld(t, "ES256")
	if err := w.follower.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(w.follower.file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(whole), `"d":`) {
		t.Error("a private key is in the copy")
	}
	for name, data := range map[string]string{
		"cut":               string(whole[:len(whole)/2]),
		"empty":             "",
		"nonsense":          "hello",
		"other environment": strings.Replace(string(whole), `"production"`, `"sandbox"`, 1),
		"a changed letter":  strings.Replace(string(whole), `"x":"`, `"x":"A`, 1),
		"no point":          strings.Replace(string(whole), `"crv":"P-256"`, `"crv":"P-521"`, 1),
		"a symmetric key":   `{"environment":"production","keys":[{"kty":"oct","kid":"k","alg":"HS256","k":"AAAA"}]}`,
	} {
		f := &Follower{environment: "production", file: filepath.Join(t.TempDir(), "keys")}
		if err := os.WriteFile(f.file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.load(); err == nil {
			t.Errorf("%s: a damaged copy was loaded", name)
		}
	}
}

func stored(t *testing.T, keys KeyStore) StoredKey {
	t.Helper()
	list, err := keys.SigningKeys(t.Context())
	if err != nil || len(list) == 0 {
		t.Fatalf("%d keys, %v", len(list), err)
	}
	return list[0]
}

func mustPrivate(t *testing.T, text []byte) any {
	t.Helper()
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestForeignRecordsInTheBucketAreLeftOut(t *testing.T) {
	w := newWorld(t, "ES256")
	private, err := openKey(stored(t, w.keys))
	if err != nil {
		t.Fatal(err)
	}
	leaked, err := (&jose.JSONWebKey{Key: mustPrivate(t, private.PEM), KeyID: "leaked", Algorithm: "ES256"}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	misnamed, err := json.Marshal(private.public)
	if err != nil {
		t.Fatal(err)
	}
	at, err := w.buckets.late.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for kid, value := range map[string][]byte{
		"leaked": leaked, "nonsense": []byte("hello"), "misnamed": misnamed,
		"symmetric": []byte(`{"kty":"oct","kid":"symmetric","alg":"HS256","k":"AAAA"}`),
	} {
		if _, err := at.keys.Put(t.Context(), kid, value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := at.revocations.Put(t.Context(), "odd", []byte("no time")); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the odd revocation arrives", func() bool { return w.follower.isRevoked("odd") })
	if _, _, err := w.ring.Rotate(t.Context()); err != nil { // arrives after the others
		t.Fatal(err)
	}
	await.That(t, "the new key arrives", func() bool { return len(*w.follower.keys.Load()) >= 2 })
	if n := len(*w.follower.keys.Load()); n != 2 {
		t.Errorf("%d keys are known", n)
	}
}

func TestReadyWaitsForTheDirectoryWhereThereIsNoCopy(t *testing.T) {
	f, err := Follow(t.Context(), connect(t, "127.0.0.1:1"), "production", filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ready: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// A login service that starts while the directory is away, and without a copy on disk, knows
// what it has signed itself: it could otherwise revoke nothing.
func TestOwnKeysAreKnownWithoutTheDirectory(t *testing.T) {
	w := newWorld(t, "ES256")
	old := w.sign(t, w.claims())
	if _, _, err := w.ring.Rotate(t.Context()); err != nil { // so that there are two keys
		t.Fatal(err)
	}
	nc, err := directory.Connect([]string{"nats://127.0.0.1:1"}, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	f, err := Follow(t.Context(), nc, "production", filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	v := NewVerifier(issuer, f, 100, w.clock.now)
	if _, err := v.Verify(old); err == nil {
		t.Fatal("a follower that has heard of nothing knows a key")
	}
	ring, err := NewRing(t.Context(), w.keys, f.Announcer(LateBuckets(nc, "production", 1)), w.options("ES256"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ring.Close(); err != nil {
			t.Error(err)
		}
	})
	w.clock.advance(time.Minute) // the second key signs by now
	fresh, err := ring.Sign(w.claims())
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{"of the old key": old, "of the new key": fresh} {
		if _, err := v.Verify(raw); err != nil {
			t.Errorf("a token %s: %v", name, err)
		}
	}
}
