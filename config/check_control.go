package config

import (
	"net"
	"net/url"
	"slices"
	"time"
)

func (f *findings) checkControl(c *Config) {
	k := c.Control
	f.dsn("control.store", k.Store)
	if choices := []string{TokenOn, TokenOff}; !slices.Contains(choices, k.AdminToken) {
		f.add("control.admin_token", "%q is not a choice: write %s", k.AdminToken, oneOf(choices))
	}
	f.forBrowsers("control.url", k.URL, "https://control.example.com")
	f.forBrowsers("control.login_url", k.LoginURL, "https://login.example.com")
	i := slices.IndexFunc(c.Environments, func(e Environment) bool { return e.Name == k.Operators })
	switch {
	case i < 0 && len(c.Environments) > 0:
		f.add("control.operators", "there is no environment %q: name the one whose users are operators", k.Operators)
	case i >= 0 && c.Environments[i].Sandbox != "":
		f.add("control.operators", "%s is a sandbox, where anybody may be given an account: name another environment", k.Operators)
	}
	f.atLeast("control.session_lifetime", k.SessionLifetime, time.Minute)
	f.atLeast("control.session_idle", k.SessionIdle, time.Minute)
	f.atLeast("control.audit_retention", k.AuditRetention, 24*time.Hour)
}

// forBrowsers wants a base URL at which cookies are safe: plain HTTP is for this machine.
func (f *findings) forBrowsers(setting, text, like string) {
	if text == "" {
		return
	}
	f.baseURL(setting, text, like, "http", "https")
	if u, err := url.Parse(text); err == nil && u.Scheme == "http" && !Loopback(u.Hostname()) {
		f.add(setting, "%s is plain HTTP, which anybody on the way can read: write an https URL, such as %s", text, like)
	}
}

// Loopback says whether a host is this machine.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
