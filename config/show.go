package config

import (
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Show writes the configuration as a file that [Load] reads, for people to look at:
// passwords in DSNs are replaced.
func (c *Config) Show() ([]byte, error) {
	shown := *c
	shown.Stores.DSN = withoutPassword(c.Stores.DSN)
	shown.Control.Store = withoutPassword(c.Control.Store)
	shown.Environments = slices.Clone(c.Environments)
	for i := range shown.Environments {
		e := &shown.Environments[i]
		e.Identity.Store = withoutPassword(e.Identity.Store)
		e.Regions = slices.Clone(e.Regions)
		for j := range e.Regions {
			e.Regions[j].Store = withoutPassword(e.Regions[j].Store)
		}
	}
	return yaml.Marshal(&shown)
}

func withoutPassword(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.User == nil && u.RawQuery == "" {
		return dsn
	}
	q := u.Query()
	for name := range q { // libpq takes passwords as parameters too
		if strings.Contains(strings.ToLower(name), "password") {
			q.Set(name, "xxxxx")
			u.RawQuery = q.Encode()
		}
	}
	return u.Redacted()
}
