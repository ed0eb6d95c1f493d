package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/time/rate"

	"mpr/config"
	"mpr/observe"
	"mpr/pki"
)

// doors is how the doors of this process speak TLS, if they do.
type doors struct {
	pairs *pki.Pairs
	files []config.Pair // of pairs
	acme  *autocert.Manager

	// complain says now and then that there is no certificate: strangers can make us try at any time.
	complain rate.Sometimes

	mu sync.Mutex
	// hosts are those that answer here, and the certificate that each of them has shown; nil: none yet.
	// Certificates are asked for these alone: a stranger who names another host must not make us
	// ask for one, in vain, again and again.
	hosts map[string]*x509.Certificate
}

// openDoors reads the certificates of doors. It answers nil where doors are plain HTTP.
func openDoors(c *config.Config) (*doors, error) {
	d := &doors{files: c.TLS.Certificates, hosts: map[string]*x509.Certificate{}, complain: rate.Sometimes{Interval: time.Minute}}
	switch t := c.TLS; {
	case t.ACME.Directory != "":
		client, err := acmeClient(t.ACME)
		if err != nil {
			return nil, err
		}
		d.acme = &autocert.Manager{
			Prompt: autocert.AcceptTOS, Email: t.ACME.Email, Client: client,
			Cache: autocert.DirCache(filepath.Join(c.Data, "acme")), HostPolicy: d.answersFor,
		}
	case len(t.Certificates) > 0:
		files := make([]pki.Files, len(t.Certificates))
		for i, f := range t.Certificates {
			files[i] = pki.Files{Certificate: f.Certificate, Key: f.Key}
		}
		var err error
		if d.pairs, err = pki.OpenPairs(files...); err != nil {
			return nil, fmt.Errorf("tls.certificates: %w", err)
		}
	default:
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	return d, nil
}

// CheckCertificates says what is wrong with the files of certificates that the configuration
// names. Those that have ended are as wrong as those that don't fit.
func CheckCertificates(c *config.Config) error {
	d, err := openDoors(c)
	if err != nil {
		return err
	}
	admin, err := openAdmin(c.Control)
	if err != nil {
		return err
	}
	peer, err := peerOf(c.InternalTLS, "")
	if err != nil {
		return err
	}
	if d != nil && d.pairs != nil {
		for i, pair := range d.pairs.Certificates() {
			err = errors.Join(err, inTime("tls.certificates", c.TLS.Certificates[i].Certificate, pair.Leaf))
		}
	}
	if admin != nil {
		err = errors.Join(err, inTime("control.certificate_file", c.Control.Certificate, admin.Certificates()[0].Leaf))
	}
	if peer != nil {
		err = errors.Join(err, inTime("internal_tls", c.InternalTLS.Certificate, peer.Certificate()))
	}
	return err
}

// inTime says that the certificate of a setting isn't valid now.
func inTime(setting, file string, c *x509.Certificate) error {
	now := time.Now()
	if now.After(c.NotBefore) && now.Before(c.NotAfter) {
		return nil
	}
	return fmt.Errorf("%s: the certificate in %s is valid from %s to %s: replace it", setting, file, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
}

// acmeTimeout bounds one request to a CA.
const acmeTimeout = 30 * time.Second

func acmeClient(a config.ACME) (*acme.Client, error) {
	client := &acme.Client{DirectoryURL: a.Directory, UserAgent: "mpr"}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: acmeTimeout, IdleConnTimeout: time.Minute}
	if a.CA != "" {
		roots := x509.NewCertPool()
		data, err := os.ReadFile(a.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.acme.ca_file: %w", err)
		}
		if !roots.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("tls.acme.ca_file: %s holds no certificate", a.CA)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	client.HTTPClient = &http.Client{Transport: transport, Timeout: acmeTimeout}
	return client, nil
}

// config is that of the door of a host.
func (d *doors) config(host string) *tls.Config {
	if d == nil {
		return nil
	}
	if d.acme == nil {
		return d.pairs.Server()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hosts[host] = nil
	t := d.acme.TLSConfig()
	t.MinVersion = tls.VersionTLS12
	ask := t.GetCertificate
	t.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := ask(hello)
		d.answered(hello, c, err)
		return c, err
	}
	return t
}

// answered notes what became of a handshake by ACME. Clients only hear that it has failed.
func (d *doors) answered(hello *tls.ClientHelloInfo, c *tls.Certificate, err error) {
	host := strings.ToLower(hello.ServerName)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch _, ours := d.hosts[host]; {
	case !ours || slices.Contains(hello.SupportedProtos, acme.ALPNProto): // a stranger's, or the CA's challenge
	case err != nil:
		d.complain.Do(func() { slog.Error("there is no certificate for a door", "host", host, "error", err) })
	case c.Leaf != nil:
		d.hosts[host] = c.Leaf
	}
}

// ends are the times at which certificates end, for operators.
func (d *doors) ends() []observe.Sample {
	if d == nil {
		return nil
	}
	var all []observe.Sample
	if d.acme == nil {
		for i, c := range d.pairs.Certificates() {
			all = append(all, end("door", d.files[i].Certificate, c.Leaf))
		}
		return all
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for host, c := range d.hosts {
		if c != nil {
			all = append(all, end("door", host, c))
		}
	}
	return all
}

// answersFor refuses hosts whose doors are elsewhere.
func (d *doors) answersFor(_ context.Context, host string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ours := d.hosts[host]; !ours {
		return fmt.Errorf("%q is not the host of a door of this process", host)
	}
	return nil
}
