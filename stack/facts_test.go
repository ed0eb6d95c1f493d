package stack

import (
	"strings"
	"testing"

	"mpr/config"
)

// What is suggested finds the system that suggests it.
func TestSuggestionsNameTheDataFolder(t *testing.T) {
	for data, want := range map[string]string{
		config.DefaultData: "NEXT: mpr company list, mpr app list, mpr company create --name NAME --region EU01, mpr signin\n",
		"/srv/a b":         `NEXT: mpr company list --data "/srv/a b", mpr app list --data "/srv/a b", `,
	} {
		f := &Facts{Environments: []EnvironmentFacts{{}}, Apps: []AppFacts{{Kind: "web", RedirectURIs: []string{"urn:x"}}, {Kind: "developer_managed"}},
			Users: []UserFacts{{Login: "a@example.com"}}, Companies: []CompanyFacts{{ID: 1, Region: "EU01"}}, data: data}
		var b strings.Builder
		if err := f.writeText(&b, "Company-Id"); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%v: %s", err, b.String())
		}
	}
}
