package pki

import (
	"fmt"
	"time"
)

// Stage says how far one CA has taken over from another.
type Stage string

// The stages. Each needs what the one before has made to be in place with all processes.
const (
	// Settled: there is one CA.
	Settled Stage = "settled"
	// Announced: the next CA is trusted, and doesn't sign yet.
	Announced Stage = "announced"
	// Signing: it signs, and the one before it is still trusted.
	Signing Stage = "signing"
)

// Stage is how far a successor has taken over.
func (a *Authority) Stage() Stage {
	switch {
	case a.next != nil:
		return Announced
	case a.former != nil:
		return Signing
	}
	return Settled
}

// Rotate goes one stage on, and answers the CA as it is then. A successor is valid for as long
// as the one before.
func (a *Authority) Rotate(now time.Time) (*Authority, error) {
	switch a.Stage() {
	case Announced:
		return &Authority{Certificate: a.next.Certificate, key: a.next.key, former: a.Certificate}, nil
	case Signing:
		return &Authority{Certificate: a.Certificate, key: a.key}, nil
	}
	c := a.Certificate
	if len(c.PermittedDNSDomains) > 0 {
		return nil, fmt.Errorf("the CA %s is for certain hosts only: make it anew", c.Subject.CommonName)
	}
	next, err := NewAuthority(AuthorityOptions{Name: c.Subject.CommonName, Now: now, Lifetime: c.NotAfter.Sub(c.NotBefore) - Backdate})
	if err != nil {
		return nil, err
	}
	return &Authority{Certificate: c, key: a.key, next: next}, nil
}
