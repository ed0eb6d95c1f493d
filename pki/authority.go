package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"mpr/directory"
)

// Authority is a CA. Its file of certificates is what others trust: the one that signs stands
// first, and while one CA takes over from another, both stand there ([Authority.Rotate]).
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// next takes over from this one; nil where none is announced.
	next *Authority
	// former has signed before; nil where nobody needs it any more.
	former *x509.Certificate
}

// AuthorityOptions say what a new CA is like.
type AuthorityOptions struct {
	Name     string
	Now      time.Time
	Lifetime time.Duration
	// Hosts are those that it may sign for, together with this machine; empty for any host.
	Hosts []string
}

// roleScheme is what the URIs that name roles begin with.
const roleScheme = "mpr://"

// Backdate is how long before it is made a certificate begins to be valid: clocks differ.
const Backdate = time.Hour

// NewAuthority makes a CA, which may sign certificates of processes, and no other CA's.
func NewAuthority(o AuthorityOptions) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: o.Name},
		NotBefore:             o.Now.Add(-Backdate),
		NotAfter:              o.Now.Add(o.Lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if len(o.Hosts) > 0 { // RFC 5280 section 4.2.1.10
		template.PermittedDNSDomainsCritical = true
		template.PermittedDNSDomains = append([]string{"localhost"}, o.Hosts...)
		template.PermittedIPRanges = []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	return &Authority{Certificate: cert, key: key}, nil
}

// ReadAuthority reads a CA from its files. Where there is none the error is
// [fs.ErrNotExist].
func ReadAuthority(certificateFile, keyFile string) (*Authority, error) {
	certPEM, err := os.ReadFile(certificateFile) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile) //nolint:gosec // the operator names it
	if errors.Is(err, fs.ErrNotExist) {
		// It isn't wrapped: there is a CA, and nobody should make another one in its place.
		return nil, fmt.Errorf("the CA %s is there without its key: put %s back", certificateFile, keyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the CA's key: %w", err)
	}
	a, err := parseAuthority(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s and %s don't hold a CA and its key: %w", certificateFile, keyFile, err)
	}
	return a, nil
}

// parseAuthority reads a CA, and the one that comes after it or was before it. Which one that is
// say the keys: that of the next CA stands after that of the one that signs.
func parseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certificates, err := parseAuthorities(certPEM)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(keyPEM)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(keys, func(k *ecdsa.PrivateKey) bool { return k.PublicKey.Equal(certificates[0].PublicKey) })
	if i < 0 {
		return nil, errors.New("no key fits the first certificate")
	}
	a := &Authority{Certificate: certificates[0], key: keys[i]}
	switch {
	case len(certificates) > 2:
		return nil, fmt.Errorf("there are %d certificates: expected one, and a second one while it takes over or has taken over", len(certificates))
	case len(certificates) == 1:
	case i+1 < len(keys) && keys[i+1].PublicKey.Equal(certificates[1].PublicKey):
		a.next = &Authority{Certificate: certificates[1], key: keys[i+1]}
	default:
		a.former = certificates[1]
	}
	return a, nil
}

func parseKeys(text []byte) ([]*ecdsa.PrivateKey, error) {
	var keys []*ecdsa.PrivateKey
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return keys, nil
		}
		parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
		if err != nil {
			return nil, err
		}
		key, ok := parsed.(*ecdsa.PrivateKey)
		if !ok {
			return nil, errors.New("the key isn't one of ECDSA")
		}
		keys = append(keys, key)
	}
}

// Write keeps the CA in files, the key readable for its owner alone.
func (a *Authority) Write(certificateFile, keyFile string) error {
	certificates := []block{{"CERTIFICATE", a.Certificate.Raw}}
	keys, err := keyBlocks(a.key)
	switch {
	case err != nil:
	case a.next != nil:
		certificates = append(certificates, block{"CERTIFICATE", a.next.Certificate.Raw})
		keys, err = keyBlocks(a.key, a.next.key)
	case a.former != nil:
		certificates = append(certificates, block{"CERTIFICATE", a.former.Raw})
	}
	if err != nil {
		return fmt.Errorf("keep a CA: %w", err)
	}
	write := func(mode fs.FileMode, path string, blocks []block) func() error {
		return func() error { return writePEM(path, mode, blocks...) }
	}
	// A certificate without its key would be of no use: whatever comes in between, the key is there.
	steps := []func() error{write(0o600, keyFile, keys), write(0o644, certificateFile, certificates)}
	if a.former != nil {
		slices.Reverse(steps) // one key goes
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func keyBlocks(keys ...*ecdsa.PrivateKey) ([]block, error) {
	var blocks []block
	for _, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, block{"PRIVATE KEY", der})
	}
	return blocks, nil
}

// Leaf says what a certificate is for.
type Leaf struct {
	Name string
	// Roles that its process may play towards others; without any it only answers strangers.
	Roles []string
	// Hosts are names and IP addresses.
	Hosts    []string
	Now      time.Time
	Lifetime time.Duration
}

// Issue makes a key and signs a certificate for it. It ends with the CA at the latest.
func (a *Authority) Issue(l Leaf) (tls.Certificate, error) {
	if err := inTime(a.Certificate, l.Now); err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: the CA %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: l.Name},
		NotBefore:             l.Now.Add(-Backdate),
		NotAfter:              l.Now.Add(l.Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(a.Certificate.NotAfter) {
		template.NotAfter = a.Certificate.NotAfter
	}
	if len(l.Roles) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, role := range l.Roles {
		template.URIs = append(template.URIs, &url.URL{Scheme: strings.TrimSuffix(roleScheme, "://"), Host: role})
	}
	for _, host := range l.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.Certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// WritePair keeps a certificate and its key in one file, so that both are replaced in one
// step. Only its owner may read it.
func WritePair(path string, c tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return fmt.Errorf("keep a certificate: %w", err)
	}
	var blocks []block
	for _, der := range c.Certificate {
		blocks = append(blocks, block{"CERTIFICATE", der})
	}
	return writePEM(path, 0o600, append(blocks, block{"PRIVATE KEY", key})...)
}

func serial() *big.Int {
	// 128 random bits: CreateCertificate wants a positive number of at most 20 bytes.
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		panic(err) // crypto/rand never fails on the systems that Go supports
	}
	return n.Add(n, big.NewInt(1))
}

type block struct {
	kind string
	der  []byte
}

func writePEM(path string, mode fs.FileMode, blocks ...block) error {
	var b bytes.Buffer
	for _, one := range blocks {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: one.kind, Bytes: one.der}))
	}
	err := directory.WriteFile(path, mode, func(w io.Writer) error {
		_, err := w.Write(b.Bytes())
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
