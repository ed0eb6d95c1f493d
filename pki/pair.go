package pki

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"
)

// Files are those of a certificate, with the ones that lead from it to its CA, and of its key.
type Files struct {
	Certificate string
	// Key is the file with the key; empty where it stands in the other one.
	Key string
}

func (f Files) key() string {
	if f.Key == "" {
		return f.Certificate
	}
	return f.Key
}

// Pairs are certificates with their keys that are read again when their files change.
type Pairs struct{ pairs []*watched[*tls.Certificate] }

// OpenPairs reads certificates and keys. Each must fit its key.
func OpenPairs(files ...Files) (*Pairs, error) {
	p := &Pairs{}
	for _, f := range files {
		pair, err := openPair(f, func(*tls.Certificate, time.Time) error { return nil })
		if err != nil {
			return nil, err
		}
		p.pairs = append(p.pairs, pair)
	}
	return p, nil
}

// openPair reads a certificate and its key. check may refuse more than that they don't fit; its
// time is one at which the certificate is valid.
func openPair(f Files, check func(*tls.Certificate, time.Time) error) (*watched[*tls.Certificate], error) {
	w, err := watch([]string{f.Certificate, f.key()}, func(contents [][]byte, now time.Time) (*tls.Certificate, error) {
		c, err := tls.X509KeyPair(contents[0], contents[len(contents)-1])
		if err != nil {
			return nil, fmt.Errorf("%s and %s don't hold a certificate and its key: %w", f.Certificate, f.key(), err)
		}
		untimely := inTime(c.Leaf, time.Now())
		if untimely != nil {
			untimely = fmt.Errorf("the certificate in %s %w", f.Certificate, untimely)
		}
		switch {
		case untimely != nil && !now.IsZero(): // what is there already may be better than this
			return nil, untimely
		case untimely != nil: // its successor may be on its way
			slog.Error("nobody who checks a certificate connects until its file is replaced, or its time has come", "error", untimely)
			now = c.Leaf.NotAfter
		default:
			now = time.Now()
		}
		return &c, check(&c, now)
	})
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	return w, nil
}

// Get chooses the certificate for a client: the first one that is for the host that it names
// and that it can use, or else the first one.
func (p *Pairs) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	var first *tls.Certificate
	for _, pair := range p.pairs {
		c := pair.get()
		if hello.SupportsCertificate(c) == nil {
			return c, nil
		}
		if first == nil {
			first = c
		}
	}
	return first, nil
}

// Certificates are those that are in use.
func (p *Pairs) Certificates() []*tls.Certificate {
	all := make([]*tls.Certificate, len(p.pairs))
	for i, pair := range p.pairs {
		all[i] = pair.get()
	}
	return all
}

// Server answers over TLS with these certificates, by HTTP/2 or HTTP/1.1.
func (p *Pairs) Server() *tls.Config {
	t := ServerConfig()
	t.GetCertificate = p.Get
	return t
}

// ServerConfig is how we speak TLS to strangers, but for the certificates.
func ServerConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}
