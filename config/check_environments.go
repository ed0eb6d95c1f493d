package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"mpr/company"
)

func (f *findings) checkEnvironments(c *Config) {
	if len(c.Environments) == 0 {
		f.add("environments", "needs one environment or more, or remove it to keep the default ones")
	}
	names, hosts := map[string]string{}, map[string]string{}
	for i := range c.Environments {
		e, at := &c.Environments[i], fmt.Sprintf("environments[%d]", i)
		f.checkEnvironmentName(at+".name", e.Name, names)
		f.checkHost(at+".login.host", e.Login.Host, "login.procore.com", hosts)
		f.checkHost(at+".api.host", e.API.Host, "api.procore.com", hosts)
		if e.Legacy.Host != "" { // an environment may have no legacy door
			f.checkHost(at+".legacy.host", e.Legacy.Host, "app.procore.com", hosts)
		}
		f.dsn(at+".identity.store", e.Identity.Store)
		f.checkRegions(c, e, at+".regions")
	}
	f.checkSandboxes(c)
}

// sandboxes are the kinds of sandboxes that an environment may be.
var sandboxes = []string{SandboxMonthly, SandboxDevelopment}

// checkSandboxes wants each sandbox to belong to an environment that is none, which has
// one of each kind at the most.
func (f *findings) checkSandboxes(c *Config) {
	type sandbox struct{ of, kind string }
	there := map[sandbox]string{}
	for i := range c.Environments {
		e, at := &c.Environments[i], fmt.Sprintf("environments[%d]", i)
		this := sandbox{e.SandboxOf, e.Sandbox}
		switch {
		case e.Sandbox == "" && e.SandboxOf == "":
			continue
		case !slices.Contains(sandboxes, e.Sandbox):
			f.add(at+".sandbox", "%q is no kind of sandbox: write %s, or remove sandbox_of", e.Sandbox, oneOf(sandboxes))
		case !slices.ContainsFunc(c.Environments, func(o Environment) bool { return o.Name == e.SandboxOf && o.Sandbox == "" }):
			f.add(at+".sandbox_of", "%q can't have a sandbox: write the name of an environment that is here and is no sandbox, such as production", e.SandboxOf)
		case there[this] != "":
			f.add(at+".sandbox", "%s is the %s sandbox of %s already", there[this], e.Sandbox, e.SandboxOf)
		default:
			there[this] = at
		}
	}
}

// checkEnvironmentName checks a name that also stands in the names of folders and
// buckets, where a space becomes a dash.
func (f *findings) checkEnvironmentName(setting, name string, names map[string]string) {
	const most = 32
	plain := strings.ReplaceAll(name, " ", "-")
	wrong := strings.ContainsFunc(plain, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
	switch {
	case name == "":
		f.add(setting, "is missing: write a name, such as production")
	case wrong || plain[0] == '-' || strings.HasSuffix(plain, "-") || len(plain) > most:
		f.add(setting, "%q can't be a name: use up to %d lower case letters, digits, dashes and spaces, such as monthly sandbox", name, most)
	case names[plain] != "":
		f.add(setting, "%q is the name of %s too: give each environment its own", name, names[plain])
	default:
		names[plain] = strings.TrimSuffix(setting, ".name")
	}
}

// checkHost checks a host name, which decides to which environment and door a request
// belongs: "Nothing crosses" needs each to stand once.
func (f *findings) checkHost(setting, host, example string, hosts map[string]string) {
	switch {
	case host == "":
		f.add(setting, "is missing: write a host name, such as %s", example)
	case !isHost(host):
		f.add(setting, "%q is not a host name: write it in lower case, without https:// and without a port, such as %s", host, example)
	case hosts[host] != "":
		f.add(setting, "%s is %s too: each door needs a host of its own", host, hosts[host])
	default:
		hosts[host] = setting
	}
}

func isHost(host string) bool {
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				return false
			}
		}
	}
	return true
}

func (f *findings) checkRegions(c *Config, e *Environment, at string) {
	if len(e.Regions) == 0 {
		f.add(at, "needs one region or more; the default region %s with number 0 must be among them", c.DefaultRegion)
		return
	}
	codes, numbers := map[string]int{}, map[int]int{}
	for j := range e.Regions {
		r, at := &e.Regions[j], fmt.Sprintf("%s[%d]", at, j)
		if _, err := company.ParseRegion(r.Code); err != nil {
			f.add(at+".code", "%v", err)
		} else if k, ok := codes[r.Code]; ok {
			f.add(at+".code", "%s is the code of regions[%d] too: give each region its own", r.Code, k)
		} else {
			codes[r.Code] = j
		}
		if k, ok := numbers[r.Number]; !ok {
			numbers[r.Number] = j
		} else {
			f.add(at+".number", "%d is the number of regions[%d] too: it stands in the ids that the region makes and must be its own", r.Number, k)
		}
		f.between(at+".number", int64(r.Number), 0, company.MaxRegionNumber)
		f.dsn(at+".store", r.Store)
		f.between(at+".max_store_bytes", r.MaxStore, 0, 1<<60)
		if r.HealthPath != "" && !company.IsHealthPath(r.HealthPath) {
			f.add(at+".health_path", "%q is not a path: write it with a slash at its start, such as /readyz, or leave it out to have gateways only connect", r.HealthPath)
		}
		for k, u := range r.Upstreams {
			f.baseURL(fmt.Sprintf("%s.upstreams[%d]", at, k), u, "http://10.0.0.7:8080", "http", "https")
		}
		f.checkProcesses(r, at)
	}
	f.checkDefaultRegion(c.DefaultRegion, e, at)
}

// checkProcesses checks the processes of a region that may have several.
func (f *findings) checkProcesses(r *RegionConfig, at string) {
	if len(r.Processes) == 0 {
		return
	}
	if len(r.Upstreams) > 0 {
		f.add(at+".processes", "are those of a region of ours, and upstreams name a service that stands in for it: remove one of the two")
		return
	}
	for _, unused := range [][2]string{{"listen", r.Listen}, {"internal", r.Internal}} {
		if unused[1] != "" {
			f.add(at+"."+unused[0], "isn't used where there are processes, each of which has its own: remove it")
		}
	}
	if len(r.Processes) > 1 && strings.HasPrefix(r.Store, "sqlite:") {
		f.add(at+".processes", "has %d processes, and the region's database is a SQLite file, which takes the writes of one process on one machine: name a PostgreSQL database in store or in stores.dsn, or keep one process", len(r.Processes))
	}
	names := map[string]int{}
	for k, p := range r.Processes {
		at := fmt.Sprintf("%s.processes[%d]", at, k)
		if !isHost(p.Name) {
			f.add(at+".name", "%q can't be a name: use lower case letters, digits, dashes and dots, such as eu01-a; the flag --process says which one a process is", p.Name)
		} else if first, ok := names[p.Name]; ok {
			f.add(at+".name", "%s is the name of processes[%d] too: give each process its own", p.Name, first)
		} else {
			names[p.Name] = k
		}
	}
}

func (f *findings) checkDefaultRegion(code string, e *Environment, at string) {
	if _, err := company.ParseRegion(code); err != nil {
		return // told of already
	}
	j := slices.IndexFunc(e.Regions, func(r RegionConfig) bool { return r.Code == code })
	if j < 0 {
		f.add(at, "the default region %s is missing: add it with number 0, or name another in default_region", code)
	} else if e.Regions[j].Number != 0 {
		// "US01, the default region, has number 0 and small ids."
		f.add(fmt.Sprintf("%s[%d].number", at, j), "must be 0: %s is the default region, whose ids are small", code)
	}
}

// dsn wants the name of a database that package store can open. Texts don't show it: it
// may hold a password.
func (f *findings) dsn(setting, dsn string) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok && path != "" {
		return
	}
	u, err := url.Parse(dsn)
	if err != nil || !slices.Contains([]string{"postgres", "postgresql"}, u.Scheme) || u.Path == "" || u.Path == "/" {
		f.add(setting, "is not the DSN of a database: write sqlite:PATH, or postgres://user@host/database?passfile=FILE")
	}
}

// baseURL wants a URL that names a server and nothing more. Texts don't show it: it may
// hold a password.
func (f *findings) baseURL(setting, s, example string, schemes ...string) {
	u, err := url.Parse(s)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		f.add(setting, "is not the base URL of a server: write scheme, host and port and nothing else, such as %s", example)
	}
}
