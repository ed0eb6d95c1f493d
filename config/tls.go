package config

import (
	"fmt"
	"net/url"
	"strings"
)

// TLS says with which certificates doors speak TLS. Without any they are plain HTTP.
type TLS struct {
	// Certificates are chosen by the host that a client names.
	Certificates []Pair `yaml:"certificates"`
	ACME         ACME   `yaml:"acme"`
}

// Pair names the files of a certificate and its key, which may be one.
type Pair struct {
	Certificate string `yaml:"certificate_file"`
	Key         string `yaml:"key_file"`
}

// ACME says where certificates are asked for.
type ACME struct {
	// Directory is the URL of the CA's directory; empty: none is asked.
	Directory string `yaml:"directory"`
	Email     string `yaml:"email"`
	// CA is a file with the certificates that the CA's own server is to be trusted by; empty: those of the system.
	CA string `yaml:"ca_file"`
}

// On says whether doors speak TLS.
func (t TLS) On() bool { return len(t.Certificates) > 0 || t.ACME.Directory != "" }

// Scheme is that of the URLs of doors at their addresses.
func (t TLS) Scheme() string {
	if t.On() {
		return "https"
	}
	return "http"
}

// InternalTLS says how our processes know one another. Empty: by the secret alone, over plain HTTP.
type InternalTLS struct {
	// CA is a file with the certificates that those of our processes are signed by.
	CA string `yaml:"ca_file"`
	// Certificate and Key are this process's own; the key may stand in the file of the certificate.
	Certificate string `yaml:"certificate_file"`
	Key         string `yaml:"key_file"`
}

func (f *findings) checkTLS(c *Config) {
	if t := c.InternalTLS; t != (InternalTLS{}) {
		if t.CA == "" {
			f.add("internal_tls.ca_file", "is missing: name the file of the CA that signs for our processes, such as ca.pem of `mpr pki init`")
		}
		if t.Certificate == "" {
			f.add("internal_tls.certificate_file", "is missing: name the certificate of this process, such as one of `mpr pki issue`")
		}
	}
	if c.Control.Key != "" && c.Control.Certificate == "" {
		f.add("control.certificate_file", "is missing: name the certificate that the key is for")
	}
	for i, p := range c.TLS.Certificates {
		if p.Certificate == "" {
			f.add(fmt.Sprintf("tls.certificates[%d].certificate_file", i), "is missing: name a file with a certificate, the ones that lead to its CA after it")
		}
	}
	a := c.TLS.ACME
	switch {
	case a.Directory != "":
		if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
			f.add("tls.acme.directory", "is not a URL of https, such as https://acme-v02.api.letsencrypt.org/directory")
		}
		if len(c.TLS.Certificates) > 0 {
			f.add("tls.acme", "certificates come from files or from a CA: remove tls.certificates, or tls.acme")
		}
		if a.Email != "" && (!strings.Contains(a.Email, "@") || strings.ContainsAny(a.Email, " \t\r\n")) {
			f.add("tls.acme.email", "%q is not an address", a.Email)
		}
	case a.Email != "" || a.CA != "":
		f.add("tls.acme.directory", "is missing: name the CA's directory, such as https://acme-v02.api.letsencrypt.org/directory")
	}
}
