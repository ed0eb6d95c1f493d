package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/config"
	"mpr/gateway"
	"mpr/observe"
	"mpr/pki"
)

// peerOf reads what a process with a role shows the others; nil where they show one another
// nothing but the secret.
func peerOf(t config.InternalTLS, role string) (*pki.Peer, error) {
	if t == (config.InternalTLS{}) {
		return nil, nil //nolint:nilnil // plain HTTP is no error
	}
	p, err := pki.OpenPeer(t.CA, pki.Files{Certificate: t.Certificate, Key: t.Key}, role)
	if err != nil {
		return nil, fmt.Errorf("internal_tls: %w", err)
	}
	return p, nil
}

// openTLS reads the certificates of a process with a role. Only those that have doors need those
// of doors: all have one configuration.
func (s *system) openTLS(role string) (err error) {
	if role == RoleLogin || role == RoleGateway {
		if s.doors, err = openDoors(s.config); err != nil {
			return err
		}
	}
	if role == RoleControl {
		if s.admin, err = openAdmin(s.config.Control); err != nil {
			return err
		}
	}
	if s.peer, err = peerOf(s.config.InternalTLS, role); err != nil {
		return err
	}
	s.transport = s.newTransport()
	return nil
}

// openAdmin reads the certificate of the admin API; nil where that is plain HTTP.
func openAdmin(c config.Control) (*pki.Pairs, error) {
	if c.Certificate == "" {
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	p, err := pki.OpenPairs(pki.Files{Certificate: c.Certificate, Key: c.Key})
	if err != nil {
		return nil, fmt.Errorf("control.certificate_file: %w", err)
	}
	return p, nil
}

// adminScheme is that of the URL of the admin API.
func (s *system) adminScheme() string {
	if s.admin == nil {
		return "http"
	}
	return "https"
}

// showCertificates has operators see when certificates end.
func (s *system) showCertificates() {
	if s.doors == nil && s.peer == nil && s.admin == nil {
		return
	}
	s.observe.Tables(observe.Table{
		Name: "mpr_certificate_end_timestamp_seconds", Help: "When a certificate that is shown ends, in Unix time, by what it is for and where it comes from.",
		Labels: []string{"use", "certificate"},
		Read: func(context.Context) ([]observe.Sample, error) {
			samples := s.doors.ends()
			if s.peer != nil {
				samples = append(samples, end("internal", s.config.InternalTLS.Certificate, s.peer.Certificate()))
			}
			if s.admin != nil {
				samples = append(samples, end("admin", s.config.Control.Certificate, s.admin.Certificates()[0].Leaf))
			}
			return samples, nil
		},
	})
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
			for _, p := range e.Regions[j].Places() {
				if *p.Listen == address || *p.Internal == address {
					return RoleRegion
				}
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

func end(use, name string, c *x509.Certificate) observe.Sample {
	return observe.Sample{Labels: []string{use, name}, Value: float64(c.NotAfter.Unix())}
}

// directoryTLS is how the directory server inside the control role speaks TLS; nil where it doesn't.
func (s *system) directoryTLS() *tls.Config {
	if s.peer == nil {
		return nil
	}
	return s.peer.Server(RoleLogin, RoleGateway, RoleRegion)
}

// directoryDialer connects to the directory server inside the control role; nil for plain TCP.
func (s *system) directoryDialer() nats.CustomDialer {
	if s.peer == nil {
		return nil
	}
	return controlDialer{s.peer}
}

type controlDialer struct{ peer *pki.Peer }

// Dial makes a connection that is secure already.
func (d controlDialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return d.peer.Client(ctx, conn, address, RoleControl)
}

// SkipTLSHandshake has the library make none of its own.
func (controlDialer) SkipTLSHandshake() bool { return true }

// insideTLS is how a listener that is no door speaks TLS, and with whom; nil where it doesn't.
// The admin API wants other things than a certificate, and operations has no secrets.
func (s *system) insideTLS(address string) *tls.Config {
	if s.admin != nil && address == s.config.Control.Listen {
		return s.admin.Server()
	}
	if s.peer == nil {
		return nil
	}
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		if e.Identity.Internal == address {
			return s.peer.Server(RoleGateway, RoleRegion, RoleControl)
		}
		for j := range e.Regions {
			for _, p := range e.Regions[j].Places() {
				switch address {
				case *p.Listen:
					return s.peer.Server(RoleGateway)
				case *p.Internal:
					return s.peer.Server(RoleControl)
				}
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

// ownRegions are the regions of an environment that are processes of ours.
func ownRegions(e *config.Environment) []company.Region {
	var own []company.Region
	for i := range e.Regions {
		if r := &e.Regions[i]; len(r.Upstreams) == 0 {
			own = append(own, company.Region(r.Code))
		}
	}
	return own
}
