package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mpr/lockfile"
	"mpr/pki"
	"mpr/stack"
)

type pkiCommands struct {
	Init  pkiInitCommand  `cmd:"" help:"Make a CA for our own processes."`
	Issue pkiIssueCommand `cmd:"" help:"Make a certificate for a process, or a door."`
	Renew pkiRenewCommand `cmd:"" help:"Make certificates anew, with new keys, before they end."`
	Show  pkiShowCommand  `cmd:"" help:"Show the CA and the certificates that it has made."`

	Rotate pkiRotateCommand `cmd:"" help:"Have a new CA take over, in three steps, while everything runs."`
}

// pkiFolder is where a CA and what it has made are kept.
type pkiFolder struct {
	Dir  string `arg:"" help:"The folder of the CA."`
	JSON bool   `name:"json" help:"Print one line of JSON."`
}

// The files of the CA in its folder.
const (
	pkiCA    = "ca.pem"
	pkiCAKey = "ca-key.pem"
	pkiLock  = "pki.lock"
)

func (f *pkiFolder) file(name string) string { return filepath.Join(f.Dir, name) }

// lock keeps other commands from changing the folder, until it is closed. None waits for another:
// two rotations at once would be two steps, and the second one without what the first has made in
// place.
func (f *pkiFolder) lock(command string) (io.Closer, error) {
	l, err := lockfile.Take(f.file(pkiLock), "mpr pki "+command)
	if held, is := errors.AsType[*lockfile.HeldError](err); is {
		return nil, fmt.Errorf("another command changes the CA in %s, %s: nothing was changed; repeat this one when that has ended", f.Dir, held.Holder)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, f.noCA()
	}
	if err != nil {
		return nil, fmt.Errorf("lock the CA's folder: %w", err)
	}
	return l, nil
}

func (f *pkiFolder) noCA() error {
	return fmt.Errorf("there is no CA in %s: make one with `mpr pki init %s`", f.Dir, f.Dir)
}

func (f *pkiFolder) open() (*pki.Authority, error) {
	ca, err := pki.ReadAuthority(f.file(pkiCA), f.file(pkiCAKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, f.noCA()
	}
	return ca, err
}

// pkiCertificate is what is told of a certificate.
type pkiCertificate struct {
	Name  string    `json:"name"`
	File  string    `json:"file"`
	Roles []string  `json:"roles"`
	Hosts []string  `json:"hosts"`
	Ends  time.Time `json:"ends"`
	State string    `json:"state"`

	began time.Time
}

// list reads the certificates of the folder, by name. Files that hold none are an error, and no
// reason to do without the others.
func (f *pkiFolder) list(ca *pki.Authority) (all []pkiCertificate, strange error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return nil, err
	}
	all = []pkiCertificate{}
	for _, e := range entries {
		name, isPEM := strings.CutSuffix(e.Name(), ".pem")
		if !isPEM || e.Name() == pkiCA || e.Name() == pkiCAKey || e.IsDir() {
			continue
		}
		pair, err := tls.LoadX509KeyPair(f.file(e.Name()), f.file(e.Name()))
		if err != nil {
			strange = errors.Join(strange, fmt.Errorf("%s doesn't hold a certificate and its key, and doesn't belong there: %w", f.file(e.Name()), err))
			continue
		}
		all = append(all, f.certificate(name, pair.Leaf, ca))
	}
	return all, strange
}

func (f *pkiFolder) certificate(name string, leaf *x509.Certificate, ca *pki.Authority) pkiCertificate {
	c := pkiCertificate{Name: name, File: f.file(name + ".pem"), Roles: append([]string{}, pki.Roles(leaf)...), Hosts: append([]string{}, leaf.DNSNames...), Ends: leaf.NotAfter, State: "valid", began: leaf.NotBefore}
	for _, ip := range leaf.IPAddresses {
		c.Hosts = append(c.Hosts, ip.String())
	}
	switch now := time.Now(); {
	case leaf.CheckSignatureFrom(ca.Certificate) != nil:
		c.State = pkiForeign
	case now.After(c.Ends):
		c.State = "ended"
	case c.due(now):
		c.State = "due"
	}
	return c
}

// pkiForeign is the state of certificates that the CA hasn't made, but the one before it perhaps.
const pkiForeign = "of another CA"

// due says whether half of its time is over.
func (c *pkiCertificate) due(now time.Time) bool {
	return now.After(c.began.Add(c.Ends.Sub(c.began) / 2))
}

type pkiInitCommand struct {
	pkiFolder
	Lifetime time.Duration `default:"87600h" help:"How long the CA is valid (default ten years)."`
}

func (c *pkiInitCommand) Run(t *terminal) error {
	if c.Lifetime < time.Hour {
		return wrongUsage("--lifetime %s: choose an hour or more", c.Lifetime)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make the CA's folder: %w", err)
	}
	held, err := c.lock("init")
	if err != nil {
		return err
	}
	defer held.Close() //nolint:errcheck // the lock ends with us
	for _, name := range []string{pkiCA, pkiCAKey} {
		if _, err := os.Lstat(c.file(name)); err == nil {
			return fmt.Errorf("there is a %s in %s already: nothing was changed; `mpr pki show %s` says more", name, c.Dir, c.Dir)
		}
	}
	ca, err := pki.NewAuthority(pki.AuthorityOptions{Name: "mpr internal CA", Now: time.Now(), Lifetime: c.Lifetime})
	if err != nil {
		return err
	}
	if err := ca.Write(c.file(pkiCA), c.file(pkiCAKey)); err != nil {
		return err
	}
	ends := ca.Certificate.NotAfter
	return t.answer(c.JSON, map[string]any{"ca_file": c.file(pkiCA), "key_file": c.file(pkiCAKey), "ends": ends}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s is the CA of our processes until %s. Keep %s off the machines where they run: whoever has it can be any of them.\n",
			c.file(pkiCA), instant(ends), c.file(pkiCAKey))
		next(w, "mpr pki issue %s --role gateway --host NAME --host ADDRESS", c.Dir)
	})
}

type pkiIssueCommand struct {
	pkiFolder
	Role     []string      `placeholder:"ROLE" help:"What its process may be: login, gateway, region or control. May be repeated; none for the certificate of a door."`
	Host     []string      `placeholder:"HOST" help:"A name or IP address at which others find its process, or the door. May be repeated."`
	Name     string        `placeholder:"NAME" help:"The name of the certificate and of its file (default: the roles, or the first host)."`
	Lifetime time.Duration `default:"72h" help:"How long it is valid (default 72h)."`
}

func (c *pkiIssueCommand) Run(t *terminal) error {
	roles := []string{stack.RoleLogin, stack.RoleGateway, stack.RoleRegion, stack.RoleControl}
	for _, role := range c.Role {
		if !slices.Contains(roles, role) {
			return wrongUsage("--role %s: there are %s", role, strings.Join(roles, ", "))
		}
	}
	for _, host := range c.Host {
		if net.ParseIP(host) == nil && (host == "" || strings.ContainsAny(host, " /:@*\t\r\n") || !isASCII(host)) {
			return wrongUsage("--host %s: expected a host name or an IP address, without a port", host)
		}
	}
	if c.Lifetime < time.Minute {
		return wrongUsage("--lifetime %s: choose a minute or more", c.Lifetime)
	}
	if len(c.Role) == 0 && len(c.Host) == 0 {
		return wrongUsage("a certificate is for something: add --role for one of our processes, or --host for a door")
	}
	if c.Name == "" {
		c.Name = cmp.Or(strings.Join(c.Role, "-"), strings.ReplaceAll(strings.Join(c.Host[:min(1, len(c.Host))], ""), ":", "-"))
	}
	if c.Name != filepath.Base(c.Name) || strings.HasPrefix(c.Name, ".") || c.Name == "ca" || c.Name == "ca-key" {
		return wrongUsage("--name %s: it becomes the name of a file, and ca and ca-key are taken", c.Name)
	}
	held, err := c.lock("issue")
	if err != nil {
		return err
	}
	defer held.Close() //nolint:errcheck // the lock ends with us
	ca, err := c.open()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.file(c.Name + ".pem")); err == nil {
		return fmt.Errorf("there is a certificate %s already: renew it with `mpr pki renew %s --name %s`, or choose another --name", c.Name, c.Dir, c.Name)
	}
	made, err := c.issue(ca, pki.Leaf{Name: c.Name, Roles: c.Role, Hosts: c.Host, Now: time.Now(), Lifetime: c.Lifetime})
	if err != nil {
		return err
	}
	return t.answer(c.JSON, made, func(w io.Writer) {
		if len(c.Role) == 0 {
			_, _ = fmt.Fprintf(w, "%s holds a certificate and its key, until %s, for who trusts %s:\n\n", made.File, instant(made.Ends), c.file(pkiCA))
			_, _ = fmt.Fprintf(w, "tls:\n  certificates:\n    - certificate_file: %s\n", c.Name+".pem")
		} else {
			_, _ = fmt.Fprintf(w, "%s holds a certificate and its key, until %s. Take it and %s to the machine of the process:\n\n", made.File, instant(made.Ends), c.file(pkiCA))
			_, _ = fmt.Fprintf(w, "internal_tls:\n  ca_file: %s\n  certificate_file: %s\n", pkiCA, c.Name+".pem")
		}
		next(w, "mpr pki renew %s, before it ends", c.Dir)
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// issue makes a certificate and keeps it.
func (f *pkiFolder) issue(ca *pki.Authority, l pki.Leaf) (pkiCertificate, error) {
	pair, err := ca.Issue(l)
	if err != nil {
		return pkiCertificate{}, err
	}
	if err := pki.WritePair(f.file(l.Name+".pem"), pair); err != nil {
		return pkiCertificate{}, err
	}
	return f.certificate(l.Name, pair.Leaf, ca), nil
}

type pkiRenewCommand struct {
	pkiFolder
	Name     []string      `placeholder:"NAME" help:"A certificate to renew now (default: those of which half of their time is over). May be repeated."`
	All      bool          `help:"Renew all."`
	Lifetime time.Duration `placeholder:"DURATION" help:"How long they are valid (default: as long as before)."`
}

func (c *pkiRenewCommand) Run(t *terminal) error {
	if c.Lifetime != 0 && c.Lifetime < time.Minute {
		return wrongUsage("--lifetime %s: choose a minute or more", c.Lifetime)
	}
	held, err := c.lock("renew")
	if err != nil {
		return err
	}
	defer held.Close() //nolint:errcheck // the lock ends with us
	ca, err := c.open()
	if err != nil {
		return err
	}
	all, strange := c.list(ca)
	if len(c.Name) > 0 {
		strange = nil // and no matter of those that are named
	}
	for _, name := range c.Name {
		if !slices.ContainsFunc(all, func(o pkiCertificate) bool { return o.Name == name }) {
			return fmt.Errorf("there is no certificate %s: `mpr pki show %s` lists those that are there", name, c.Dir)
		}
	}
	renewed := []pkiCertificate{}
	for _, o := range all {
		if !c.All && !slices.Contains(c.Name, o.Name) && (len(c.Name) > 0 || o.State == "valid") {
			continue
		}
		lifetime := c.Lifetime
		if lifetime == 0 {
			lifetime = o.Ends.Sub(o.began) - pki.Backdate
		}
		made, err := c.issue(ca, pki.Leaf{Name: o.Name, Roles: o.Roles, Hosts: o.Hosts, Now: time.Now(), Lifetime: lifetime})
		if err != nil {
			return err
		}
		renewed = append(renewed, made)
	}
	err = t.answer(c.JSON, map[string]any{"renewed": renewed}, func(w io.Writer) {
		if len(renewed) == 0 {
			_, _ = fmt.Fprintln(w, "Nothing is due: each certificate has half of its time left, or more.")
		} else {
			showCertificates(w, renewed)
		}
		next(w, "mpr pki show %s", c.Dir)
	})
	return errors.Join(err, strange)
}

type pkiShowCommand struct{ pkiFolder }

func (c *pkiShowCommand) Run(t *terminal) error {
	ca, err := c.open()
	if err != nil {
		return err
	}
	all, strange := c.list(ca)
	ends := ca.Certificate.NotAfter
	err = t.answer(c.JSON, map[string]any{"ca": map[string]any{"file": c.file(pkiCA), "ends": ends, "stage": ca.Stage()}, "certificates": all}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "The CA in %s ends at %s.\n", c.file(pkiCA), instant(ends))
		if ca.Stage() != pki.Settled || time.Until(ends) < ends.Sub(ca.Certificate.NotBefore)/10 {
			_, _ = fmt.Fprintf(w, "A new CA takes over from it (%s): `mpr pki rotate %s` goes on with that.\n", ca.Stage(), c.Dir)
		}
		if len(all) == 0 {
			next(w, "mpr pki issue %s --role gateway --host NAME", c.Dir)
			return
		}
		showCertificates(w, all)
		if slices.ContainsFunc(all, func(o pkiCertificate) bool { return o.State != "valid" }) {
			next(w, "mpr pki renew %s", c.Dir)
		}
	})
	return errors.Join(err, strange)
}

func showCertificates(w io.Writer, all []pkiCertificate) {
	rows := make([][]string, len(all))
	for i, c := range all {
		rows[i] = []string{c.Name, strings.Join(c.Roles, " "), strings.Join(c.Hosts, " "), instant(c.Ends), c.State, c.File}
	}
	table(w, []string{"NAME", "ROLES", "HOSTS", "ENDS", "STATE", "FILE"}, rows)
}
