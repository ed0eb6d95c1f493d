package directory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"mpr/test/await"
)

// guarded runs a server that wants something to be shown.
func guarded(t *testing.T, o natsserver.Options) (url string) {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", natsserver.RANDOM_PORT, true, true
	s, err := natsserver.NewServer(&o)
	must(t, err)
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server doesn't start")
	}
	return "nats://" + s.Addr().String()
}

// admitted wants the servers to be connected to, or not.
func admitted(t *testing.T, s Servers, want bool) {
	t.Helper()
	nc, err := s.Connect("test")
	must(t, err)
	defer nc.Close()
	if want {
		await.That(t, "the server admits us", nc.IsConnected)
		return
	}
	await.That(t, "the server has refused us", func() bool { return nc.LastError() != nil })
	if nc.IsConnected() {
		t.Errorf("the server has admitted %+v", s)
	}
}

func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, data, 0o600))
	return path
}

func TestAUserWithAPassword(t *testing.T) {
	url := guarded(t, natsserver.Options{Username: "mpr", Password: "hunter2"})
	password := file(t, "password", []byte("wrong\n"))
	s := Servers{URLs: []string{url}, Secret: "a token of no use", User: "mpr", Password: password}
	admitted(t, s, false)
	nc, err := s.Connect("test")
	must(t, err)
	defer nc.Close()
	await.That(t, "the server has refused us", func() bool { return nc.LastError() != nil })
	must(t, os.WriteFile(password, []byte("hunter2\n"), 0o600))
	await.That(t, "the server admits us once the password is right", nc.IsConnected)
}

func TestANkey(t *testing.T) {
	user, err := nkeys.CreateUser()
	must(t, err)
	public, err := user.PublicKey()
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	url := guarded(t, natsserver.Options{Nkeys: []*natsserver.NkeyUser{{Nkey: public}}})
	admitted(t, Servers{URLs: []string{url}, Nkey: file(t, "seed", seed)}, true)
	admitted(t, Servers{URLs: []string{url}, Secret: "a token"}, false)
}

func TestCredentials(t *testing.T) {
	operator, err := nkeys.CreateOperator()
	must(t, err)
	account, err := nkeys.CreateAccount()
	must(t, err)
	user, err := nkeys.CreateUser()
	must(t, err)
	public := func(k nkeys.KeyPair) string { p, err := k.PublicKey(); must(t, err); return p }
	claims := jwt.NewAccountClaims(public(account))
	accountJWT, err := claims.Encode(operator)
	must(t, err)
	userJWT, err := jwt.NewUserClaims(public(user)).Encode(account)
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	creds, err := jwt.FormatUserConfig(userJWT, seed)
	must(t, err)
	resolver := &natsserver.MemAccResolver{}
	must(t, resolver.Store(public(account), accountJWT))
	url := guarded(t, natsserver.Options{TrustedKeys: []string{public(operator)}, AccountResolver: resolver})
	admitted(t, Servers{URLs: []string{url}, Credentials: file(t, "mpr.creds", creds)}, true)
	admitted(t, Servers{URLs: []string{url}}, false)
}

// authority makes a CA, and certificates that it signs.
func authority(t *testing.T) (ca string, pool *x509.CertPool, sign func(name string) (certificate, key string)) {
	t.Helper()
	make1 := func(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		if parent == nil {
			parent, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		must(t, err)
		return der, key
	}
	der, caKey := make1("CA", nil, nil)
	parent, err := x509.ParseCertificate(der)
	must(t, err)
	pool = x509.NewCertPool()
	pool.AddCert(parent)
	encode := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	return file(t, "ca.pem", encode("CERTIFICATE", der)), pool, func(name string) (string, string) {
		der, key := make1(name, parent, caKey)
		pkcs, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		return file(t, name+".pem", encode("CERTIFICATE", der)), file(t, name+".key", encode("PRIVATE KEY", pkcs))
	}
}

func TestTLSOnBothSides(t *testing.T) {
	ca, pool, sign := authority(t)
	certificate, key := sign("server")
	pair, err := tls.LoadX509KeyPair(certificate, key)
	must(t, err)
	url := guarded(t, natsserver.Options{TLS: true, TLSVerify: true, TLSTimeout: 5, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}})
	mine, myKey := sign("mpr")
	admitted(t, Servers{URLs: []string{url}, CA: ca, Certificate: mine, Key: myKey}, true)
	admitted(t, Servers{URLs: []string{url}, CA: ca}, false)
	otherCA, _, _ := authority(t)
	admitted(t, Servers{URLs: []string{url}, CA: otherCA, Certificate: mine, Key: myKey}, false)
}

func TestFilesThatAreNoCredentials(t *testing.T) {
	urls := []string{"nats://u:hunter2@127.0.0.1:1"}
	for _, s := range []Servers{
		{URLs: urls, Credentials: "nowhere"}, {URLs: urls, Nkey: file(t, "seed", []byte("SUAhunter2"))}, {URLs: urls, User: "u", Password: "nowhere"},
		{URLs: urls, CA: file(t, "ca", []byte("hunter2"))}, {URLs: urls, Certificate: file(t, "c", nil), Key: file(t, "k", []byte("hunter2"))},
	} {
		nc, err := s.Connect("test")
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v", s, err)
		}
		if err == nil {
			nc.Close()
		}
	}
}
