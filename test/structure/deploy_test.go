package structure

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var metric = regexp.MustCompile(`\bmpr_[a-z_]+`)

// Alerts, dashboards and documents speak of metrics that there are, and each alert has a
// runbook that says what to do.
func TestMetricsAndAlerts(t *testing.T) {
	made := map[string]bool{}
	for _, f := range files(t) {
		if f.Test {
			continue
		}
		for _, name := range metric.FindAllString(read(t, f.Path), -1) {
			made[name] = true
		}
	}
	isMade := func(name string) bool {
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && made[base] {
				return true
			}
		}
		return false
	}
	const alerts, runbooks = "deploy/prometheus/alerts.yaml", "docs/runbooks.md"
	for _, name := range []string{alerts, "deploy/grafana/mpr.json", "docs/observability.md", runbooks} {
		found := metric.FindAllString(read(t, name), -1)
		if len(found) == 0 {
			t.Errorf("%s speaks of no metric", name)
		}
		for _, one := range found {
			if !isMade(one) {
				t.Errorf("%s speaks of %s, which nobody counts", name, one)
			}
		}
	}
	sections := anchors(read(t, runbooks))
	named := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(read(t, alerts), -1)
	links := regexp.MustCompile(`runbook: docs/runbooks\.md#(\w+)`).FindAllStringSubmatch(read(t, alerts), -1)
	if len(named) == 0 || len(named) != len(links) {
		t.Fatalf("%d alerts have %d runbooks", len(named), len(links))
	}
	for i, alert := range named {
		if want := strings.ToLower(alert[1]); links[i][1] != want || !slices.Contains(sections, want) {
			t.Errorf("%s has no part in %s, or leads to another one: %s", alert[1], runbooks, links[i][1])
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
