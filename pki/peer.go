package pki

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Peer is one of our processes towards the others: it shows its certificate, and wants one of
// the same CA from whoever it meets. Files are read again when they change.
type Peer struct {
	pair  *watched[*tls.Certificate]
	roots *watched[*x509.CertPool]
}

// OpenPeer reads the certificate of a process with a role, and those of the CAs that sign for
// our processes. The role is empty where any is good.
func OpenPeer(caFile string, own Files, role string) (*Peer, error) {
	roots, err := watch([]string{caFile}, func(contents [][]byte, _ time.Time) (*x509.CertPool, error) {
		all, err := parseAuthorities(contents[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", caFile, err)
		}
		pool := x509.NewCertPool()
		for _, c := range all {
			pool.AddCert(c)
		}
		return pool, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the CA of our processes: %w", err)
	}
	p := &Peer{roots: roots}
	p.pair, err = openPair(own, func(c *tls.Certificate, at time.Time) error {
		if err := p.fits(c, role, at); err != nil {
			return fmt.Errorf("the certificate in %s isn't one for this process by the CA in %s: %w", own.Certificate, caFile, err)
		}
		return nil
	})
	return p, err
}

// parseAuthorities reads the certificates of CAs. One that can't be read makes all useless: half
// a file must not take the trust from those in its other half.
func parseAuthorities(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s, and only certificates of CAs belong there", strings.ToLower(b.Type))
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		if !c.IsCA {
			return nil, fmt.Errorf("the certificate of %s isn't that of a CA", c.Subject.CommonName)
		}
		all = append(all, c)
	}
	if len(all) == 0 || strings.Contains(string(text), "-----BEGIN") {
		return nil, errors.New("it holds no certificate of a CA, or one that is cut off")
	}
	return all, nil
}

// fits says why a certificate of our own is of no use to a process with a role.
func (p *Peer) fits(c *tls.Certificate, role string, at time.Time) error {
	between := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(one)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: p.roots.get(), Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}})
		if err != nil {
			return err
		}
	}
	if has := Roles(c.Leaf); role != "" && !slices.Contains(has, role) || len(has) == 0 {
		return fmt.Errorf("it names the roles [%s]: it needs the URI %s%s", strings.Join(has, " "), roleScheme, cmp.Or(role, "gateway"))
	}
	return nil
}

// Certificate is the one that is shown.
func (p *Peer) Certificate() *x509.Certificate { return p.pair.get().Leaf }

// Server wants a certificate of the CA that names one of the roles from whoever connects.
func (p *Peer) Server(roles ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{
			MinVersion:   tls.VersionTLS13,
			NextProtos:   []string{"http/1.1"},
			Certificates: []tls.Certificate{*p.pair.get()},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    p.roots.get(),
			// Each connection is checked in full: what was true of the one before may be over.
			SessionTicketsDisabled: true,
			VerifyConnection:       func(state tls.ConnectionState) error { return hasRole(state, roles) },
		}, nil
	}}
}

// Client makes a connection to an address one to a process of a role: it speaks TLS, with a
// certificate for the host in the address. It closes the connection where it fails.
func (p *Peer) Client(ctx context.Context, conn net.Conn, address, role string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	secure := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"http/1.1"},
		ServerName: host,
		RootCAs:    p.roots.get(),
		// Whoever is asked for one shows the one that there is, or the refusal would speak of none.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.pair.get(), nil },
		VerifyConnection:     func(state tls.ConnectionState) error { return hasRole(state, []string{role}) },
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", address, err), conn.Close())
	}
	return secure, nil
}

// Roles are those that a certificate names.
func Roles(c *x509.Certificate) []string {
	var roles []string
	for _, u := range c.URIs {
		if role, ok := strings.CutPrefix(u.String(), roleScheme); ok {
			roles = append(roles, role)
		}
	}
	return roles
}

func hasRole(state tls.ConnectionState, wanted []string) error {
	has := Roles(state.PeerCertificates[0])
	if slices.ContainsFunc(wanted, func(role string) bool { return slices.Contains(has, role) }) {
		return nil
	}
	return fmt.Errorf("the certificate of %s names the roles [%s], and %s is wanted",
		state.PeerCertificates[0].Subject.CommonName, strings.Join(has, " "), strings.Join(wanted, " or "))
}

// inTime says why a certificate isn't valid at a time.
func inTime(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("has ended at %s", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("begins at %s only", c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
