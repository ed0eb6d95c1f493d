package stack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"mpr/config"
	"mpr/gateway"
	"mpr/intercom"
	"mpr/pki"
)

func peerOf(t config.InternalTLS) (*pki.Peer, error) {
	if t == (config.InternalTLS{}) {
		return nil, nil //nolint:nilnil // plain HTTP is no error
	}
	p, err := pki.OpenPeer(t.CA, pki.Files{Certificate: t.Certificate, Key: t.Key})
	if err != nil {
		return nil, fmt.Errorf("internal_tls: %w", err)
	}
	return p, nil
}

// openPeer reads what our processes show one another, if they show anything but the secret.
func (s *system) openPeer() (err error) {
	if s.peer, err = peerOf(s.config.InternalTLS); err != nil || s.peer == nil {
		return err
	}
	s.transport = intercom.NewTransport(s.dialTLS)
	return nil
}

// handshakeTimeout bounds a handshake with one of our processes.
const handshakeTimeout = 10 * time.Second

// dialTLS connects to a process of ours, by the CA of our processes alone. Any other address is
// that of a foreign service: it is trusted as the system trusts it, and is shown nothing.
func (s *system) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	role := s.roleAt(address)
	if role == "" {
		return (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext(ctx, network, address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return s.peer.Client(ctx, conn, address, role)
}

// roleAt is the role of ours whose internal listener has this address; empty if there is none.
func (s *system) roleAt(address string) string {
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		if e.Identity.Internal == address {
			return RoleLogin
		}
		for j := range e.Regions {
			if r := &e.Regions[j]; len(r.Upstreams) == 0 && (r.Listen == address || r.Internal == address) {
				return RoleRegion
			}
		}
	}
	return ""
}

// inside is the base URL of a listener for our own processes.
func (s *system) inside(address string) string {
	if s.peer == nil {
		return "http://" + address
	}
	return "https://" + address
}

// insideTLS is how a listener for our own processes speaks TLS, and with whom; nil where it
// doesn't. The admin API has its token, and operations no secrets.
func (s *system) insideTLS(address string) *tls.Config {
	if s.peer == nil {
		return nil
	}
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		if e.Identity.Internal == address {
			return s.peer.Server(RoleGateway, RoleRegion, RoleControl)
		}
		for j := range e.Regions {
			switch r := &e.Regions[j]; address {
			case r.Listen:
				return s.peer.Server(RoleGateway)
			case r.Internal:
				return s.peer.Server(RoleControl)
			}
		}
	}
	return nil
}

// secure is how gateways connect to our other processes.
func (s *system) secure() gateway.Secure {
	if s.peer == nil {
		return nil
	}
	return s.peer.Client
}

// checkPeer says what is wrong with the certificate of this process.
func checkPeer(t config.InternalTLS) error {
	p, err := peerOf(t)
	if err != nil || p == nil {
		return err
	}
	c := p.Certificate()
	if time.Now().After(c.NotAfter) {
		return fmt.Errorf("internal_tls: the certificate in %s has ended at %s: renew it", t.Certificate, c.NotAfter.UTC().Format(time.RFC3339))
	}
	if len(pki.Roles(c)) == 0 {
		return errors.New("internal_tls: the certificate in " + t.Certificate + " names no role: it needs a URI such as mpr://gateway")
	}
	return nil
}
