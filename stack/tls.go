package stack

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
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files of the development CA in the data folder.
const (
	caFile    = "ca.pem"
	caKeyFile = "ca-key.pem"
)

// authority is the development CA. It is made at first start and kept. It may sign for
// our host names and this machine only (RFC 5280 section 4.2.1.10, name constraints), so
// that trusting it puts no other site at risk.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openAuthority reads the CA from the data folder. It makes a new one where there is
// none, where it ends within a month, or where the host names have changed.
func openAuthority(dir string, hosts []string, now time.Time) (*authority, error) {
	a, err := readAuthority(dir)
	if err != nil {
		return nil, err
	}
	if a != nil && a.covers(hosts) && a.cert.NotAfter.After(now.AddDate(0, 1, 0)) {
		return a, nil
	}
	return makeAuthority(dir, hosts, now)
}

func (a *authority) covers(hosts []string) bool {
	permitted := map[string]bool{}
	for _, d := range a.cert.PermittedDNSDomains {
		permitted[d] = true
	}
	for _, h := range hosts {
		if !permitted[h] {
			return false
		}
	}
	return true
}

// readAuthority returns nil where the files don't exist.
func readAuthority(dir string) (*authority, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, caFile)) //nolint:gosec // within the data folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no CA yet is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the development CA: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, caKeyFile)) //nolint:gosec // within the data folder
	if err != nil {
		return nil, fmt.Errorf("read the development CA's key: %w; delete %s to have a new CA made", err, filepath.Join(dir, caFile))
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read the development CA: %w; delete %s to have a new one made", err, filepath.Join(dir, caFile))
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the development CA's key is not an ECDSA key; delete %s to have a new one made", filepath.Join(dir, caFile))
	}
	return &authority{pair.Leaf, key}, nil
}

func makeAuthority(dir string, hosts []string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the development CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: "mpr development CA"},
		NotBefore:                   now.Add(-time.Hour),
		NotAfter:                    now.AddDate(10, 0, 0),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         append([]string{"localhost"}, hosts...),
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the development CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the development CA: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the development CA: %w", err)
	}
	// The key first: a certificate without its key would stop the next start.
	if err := writePEM(filepath.Join(dir, caKeyFile), "PRIVATE KEY", keyDER, 0o600); err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, caFile), "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	return &authority{cert, key}, nil
}

// serverTLS makes a certificate for the hosts and this machine, anew at each start.
func (a *authority) serverTLS(hosts []string, now time.Time) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "mpr dev"},
		NotBefore:    now.Add(-time.Hour),
		// Clients of some systems refuse certificates that live longer than 825 days.
		NotAfter:              now.AddDate(2, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              append([]string{"localhost"}, hosts...),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}},
	}, nil
}

func serial() *big.Int {
	// 128 random bits: CreateCertificate wants a positive number of at most 20 bytes.
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		panic(err) // crypto/rand never fails on the systems that Go supports
	}
	return n.Add(n, big.NewInt(1))
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := writeFile(path, b.Bytes(), mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
