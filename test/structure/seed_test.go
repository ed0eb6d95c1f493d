package structure

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// seedMap is the document that maps the seed's sentences to tests and code.
const seedMap = "docs/seed.md"

// Every sentence of the map has a test that is there, and code that is there.
func TestSeedMap(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, seedMap))
	if err != nil {
		t.Fatal(err)
	}
	sentences := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 3 || !strings.HasPrefix(cells[0], `| "`) {
			continue
		}
		sentences++
		tests, code := inline.FindAllStringSubmatch(cells[1], -1), inline.FindAllStringSubmatch(cells[2], -1)
		if len(tests) == 0 || len(code) == 0 {
			t.Errorf("%s has no test, or no code", cells[0])
		}
		for _, m := range tests {
			folder, name, _ := strings.Cut(m[1], ".")
			if folder == "acceptance" || folder == "structure" {
				folder = "test/" + folder
			}
			if !declared(t, folder+"/*_test.go", name) {
				t.Errorf("%s: there is no test %s", cells[0], m[1])
			}
		}
		for _, m := range code {
			file, name, _ := strings.Cut(m[1], ":")
			if strings.HasSuffix(file, "_test.go") || !declared(t, file, name) {
				t.Errorf("%s: there is no %s", cells[0], m[1])
			}
		}
	}
	if sentences < 30 {
		t.Errorf("%s maps %d sentences only: has its form changed?", seedMap, sentences)
	}
}

// declared says whether a function of that name is declared in the files of a pattern.
func declared(t *testing.T, pattern, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		t.Fatal(err)
	}
	function := regexp.MustCompile(`(?m)^func (?:\([^)]*\) )?` + regexp.QuoteMeta(name) + `\(`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if function.Match(text) {
			return true
		}
	}
	return false
}
