package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checkShared notes addresses and databases that two parts would use.
func (f *findings) checkShared(c *Config) {
	listeners, stores := map[string]map[string]string{}, map[string]string{}
	listen := func(setting, address string) { f.checkListener(listeners, setting, address) }
	store := func(setting, dsn string) {
		// The text doesn't show the DSN, which may hold a password.
		if at, other := f.again(stores, setting, sameStore(dsn)); other != "" {
			f.add(at, "is the database of %s too: give each its own", other)
		}
	}
	listen("directory.listen", c.Directory.Listen)
	if c.Operations.Listen != "" {
		listen("operations.listen", c.Operations.Listen)
	}
	listen("control.listen", c.Control.Listen)
	store("control.store", c.Control.Store)
	for i := range c.Environments {
		e, at := &c.Environments[i], fmt.Sprintf("environments[%d]", i)
		listen(at+".login.listen", e.Login.Listen)
		listen(at+".api.listen", e.API.Listen)
		if e.Legacy.Host != "" {
			listen(at+".legacy.listen", e.Legacy.Listen)
		}
		listen(at+".identity.internal", e.Identity.Internal)
		store(at+".identity.store", e.Identity.Store)
		for j := range e.Regions {
			r, at := &e.Regions[j], fmt.Sprintf("%s.regions[%d]", at, j)
			if len(r.Upstreams) > 0 {
				continue // a foreign service stands in: nothing of ours listens or keeps
			}
			for k, p := range r.Places() {
				at := at
				if len(r.Processes) > 0 {
					at = fmt.Sprintf("%s.processes[%d]", at, k)
				}
				listen(at+".listen", *p.Listen)
				listen(at+".internal", *p.Internal)
			}
			store(at+".store", r.Store)
		}
	}
}

// checkListener wants an address that no other listener takes. listeners holds those that are
// known, by port and host.
func (f *findings) checkListener(listeners map[string]map[string]string, setting, address string) {
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil {
		f.add(setting, "%q is not an address: write it as 127.0.0.1:4000, or :4000 for all addresses of the machine", address)
		return
	}
	if n == 0 {
		return // any free port: never the same one
	}
	host, port = listenedAt(host), strconv.FormatUint(n, 10)
	hosts := listeners[port]
	if hosts == nil {
		hosts = map[string]string{}
		listeners[port] = hosts
	}
	// Of what covers it, or what it covers, the first in the order of their hosts is told of.
	for _, there := range slices.Sorted(maps.Keys(hosts)) {
		if there != host && (covers(there, host) || covers(host, there)) {
			at, other := f.blame(setting, hosts[there])
			f.add(at, "%s can't be listened at beside %s, the address of %s: give each listener a port of its own", net.JoinHostPort(host, port), net.JoinHostPort(there, port), other)
			return
		}
	}
	if at, other := f.again(hosts, setting, host); other != "" {
		f.add(at, "%s is the address of %s too: give each listener its own", address, other)
	}
}

// everywhere is what a listener without a host listens at: all addresses, of IPv4 too.
const everywhere = "::"

// listenedAt is a host as it is listened at, spelled in one way.
func listenedAt(host string) string {
	switch host {
	case "":
		return everywhere
	case "localhost":
		return "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return strings.ToLower(host)
	}
	return ip.Unmap().String()
}

// covers says whether who listens at all takes the port of who listens at the address. A name is
// that of another machine as a rule, whose processes have their own listeners.
func covers(all, address string) bool {
	ip, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return false
	case all == everywhere:
		return true
	}
	return all == "0.0.0.0" && ip.Is4()
}

// sameStore is a DSN in the one spelling that all those of the same database have.
func sameStore(dsn string) string {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return "sqlite:" + samePath(path)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn
	}
	u.Scheme, u.Host = "postgres", strings.ToLower(u.Host)
	if u.Host != "" && u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "5432")
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	u.RawQuery = u.Query().Encode()
	return u.String()
}

// samePath is a path without links and detours, as far as it exists: what is missing will be made.
func samePath(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return filepath.Clean(path)
	}
	missing := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, missing)
		}
		if at == filepath.Dir(at) {
			return path
		}
		missing = filepath.Join(filepath.Base(at), missing)
	}
}

// again finds the other user of a value that may have one.
func (f *findings) again(users map[string]string, setting, value string) (at, other string) {
	other, ok := users[value]
	if !ok {
		users[value] = setting
		return "", ""
	}
	return f.blame(setting, other)
}

// blame answers first, of two settings that can't be together, the one that stands in the file.
func (f *findings) blame(setting, other string) (at, with string) {
	if _, ours := f.lines[setting]; !ours {
		if _, theirs := f.lines[other]; theirs {
			return other, setting
		}
	}
	return setting, other
}
