package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
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

// OpenPeer reads a process's certificate, and those of the CAs that sign for our processes.
func OpenPeer(caFile string, own Files) (*Peer, error) {
	roots, err := watch([]string{caFile}, func(contents [][]byte, _ time.Time) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[0]) {
			return nil, fmt.Errorf("%s holds no certificate of a CA", caFile)
		}
		return pool, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the CA of our processes: %w", err)
	}
	pair, err := openPair(own)
	if err != nil {
		return nil, err
	}
	p := &Peer{pair, roots}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		// One that has ended is told of in the log: its successor may be on its way.
		leaf := pair.get().Leaf
		if err := p.verify(pair.get().Certificate, use, leaf.NotAfter); err != nil {
			return nil, fmt.Errorf("the certificate in %s isn't one for our processes by the CA in %s: %w", own.Certificate, caFile, err)
		}
	}
	return p, nil
}

// verify checks certificates as they are sent, the first of which is that of a process.
func (p *Peer) verify(sent [][]byte, use x509.ExtKeyUsage, at time.Time) error {
	leaf, err := x509.ParseCertificate(sent[0])
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, der := range sent[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: p.roots.get(), Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

// Certificate is the one that is shown.
func (p *Peer) Certificate() *x509.Certificate { return p.pair.get().Leaf }

// Server wants a certificate of the CA that names one of the roles from whoever connects.
func (p *Peer) Server(roles ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{
			MinVersion:   tls.VersionTLS13,
			NextProtos:   []string{"http/1.1"},
			Certificates: []tls.Certificate{*p.pair.get()},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    p.roots.get(),
			// Each connection is checked in full: what was true of the one before may be over.
			SessionTicketsDisabled: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				err := hasRole(state, roles)
				if err != nil {
					slog.Warn("a process is refused: its certificate is for other roles", "from", hello.Conn.RemoteAddr().String(), "error", err)
				}
				return err
			},
		}, nil
	}}
}

// Client makes a connection to an address one to a process of a role: it speaks TLS, with a
// certificate for the host in the address.
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
		if u.Scheme == roleScheme && u.Path == "" {
			roles = append(roles, u.Host)
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
