package stack

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"mpr/pki"
)

// Files of the development CA in the data folder.
const (
	caFile    = "ca.pem"
	caKeyFile = "ca-key.pem"
)

// developmentCA is the CA of `mpr dev`. It is made at first start and kept, and made anew
// where it ends within a month, or where the host names have changed. It may sign for our
// host names and this machine only, so that trusting it puts no other site at risk.
func developmentCA(dir string, hosts []string, now time.Time) (*pki.Authority, error) {
	certificate, key := filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile)
	a, err := pki.ReadAuthority(certificate, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the development CA: %w; delete %s to have a new one made", err, certificate)
	}
	if err == nil && covers(a, hosts) && a.Certificate.NotAfter.After(now.AddDate(0, 1, 0)) {
		return a, nil
	}
	a, err = pki.NewAuthority(pki.AuthorityOptions{Name: "mpr development CA", Now: now, Lifetime: 10 * 365 * 24 * time.Hour, Hosts: hosts})
	if err != nil {
		return nil, err
	}
	return a, a.Write(certificate, key)
}

func covers(a *pki.Authority, hosts []string) bool {
	for _, h := range hosts {
		if !slices.Contains(a.Certificate.PermittedDNSDomains, h) {
			return false
		}
	}
	return true
}

// developmentTLS makes a certificate for the hosts and this machine, anew at each start.
func developmentTLS(a *pki.Authority, hosts []string, now time.Time) (*tls.Config, error) {
	c, err := a.Issue(pki.Leaf{
		Name: "mpr dev", Hosts: append([]string{"localhost", "127.0.0.1", "::1"}, hosts...),
		// Clients of some systems refuse certificates that live longer than 825 days.
		Now: now, Lifetime: 2 * 365 * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	t := pki.ServerConfig()
	t.Certificates = []tls.Certificate{c}
	return t, nil
}
