package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the golden files")

// TestMistakes compares what is told of each file in testdata with the golden file
// beside it.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			_, err := Load(file, DefaultPort, "", "")
			var mistakes *Mistakes
			if !errors.As(err, &mistakes) {
				t.Fatalf("Load: %v", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if got := err.Error() + "\n"; got != string(want) {
				t.Errorf("got\n%s\nwant\n%s(go test ./config -update writes it anew)", got, want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the text shows a password")
			}
		})
	}
}

const example = "../mpr.yaml"

// The verifier can do without remembering, for those who want no tokens kept in memory.
func TestNoTokenNeedsToBeRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mpr.yaml")
	if err := os.WriteFile(file, []byte("gateway:\n  remembered_tokens: 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, DefaultPort, "", "")
	if err != nil || c.Gateway.RememberedTokens != 0 {
		t.Errorf("%v", err)
	}
}

func TestExampleIsTheDefault(t *testing.T) {
	for _, port := range []int{DefaultPort, 0, 7000} {
		for _, dir := range []string{DefaultData, "elsewhere"} {
			got, err := Load(example, port, dir, "")
			if err != nil {
				t.Fatal(err)
			}
			showSame(t, got, Default(port, dir))
		}
	}
}

// showSame compares configurations as files, where an empty list and none are the same.
func showSame(t *testing.T, got, want *Config) {
	t.Helper()
	a, err := got.Show()
	if err != nil {
		t.Fatal(err)
	}
	b, err := want.Show()
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
}

func TestExampleHasEverySetting(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	f := newFindings()
	f.decode("", document.Content[0], reflect.ValueOf(&Config{}).Elem())
	expectSettings(t, f, "", reflect.TypeFor[Config]())
}

// expectSettings wants a line for each setting of the type, and for those of the first
// entry of each list of settings.
func expectSettings(t *testing.T, f *findings, path string, typ reflect.Type) {
	t.Helper()
	for i, name := range settings(typ) {
		setting, field := strings.TrimPrefix(path+"."+name, "."), typ.Field(i).Type
		if _, ok := f.lines[setting]; !ok {
			t.Errorf("%s lacks %s", example, setting)
		}
		if field.Kind() == reflect.Slice {
			setting, field = setting+"[0]", field.Elem()
			if _, ok := f.lines[setting]; !ok && field.Kind() == reflect.Struct {
				expectExplained(t, setting, field) // the list is empty by default
				continue
			}
		}
		if field.Kind() == reflect.Struct && field != reflect.TypeFor[Day]() {
			expectSettings(t, f, setting, field)
		}
	}
}

// expectExplained wants the settings of the type's entries to stand in a comment.
func expectExplained(t *testing.T, setting string, typ reflect.Type) {
	t.Helper()
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range settings(typ) {
		if !strings.Contains(string(data), name) {
			t.Errorf("%s doesn't say what %s.%s is", example, setting, name)
		}
	}
}

func TestNoFileIsTheDefault(t *testing.T) {
	dir := t.TempDir()
	got, err := Load("", 0, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(0, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	empty := filepath.Join(dir, "empty.yaml")
	if err := os.WriteFile(empty, []byte("# nothing yet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err = Load(empty, 0, "", ""); err != nil || got.Data != DefaultData {
		t.Errorf("empty file: %+v, %v", got, err)
	}
	if _, err := Load(filepath.Join(dir, "missing.yaml"), 0, "", ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

const federal = `
product: Acme
company_header: Acme-Account
default_region: FED1
data: from-the-file
environments:
  - name: federal zone
    login: {host: login.acme.gov}
    api: {host: api.acme.gov}
    identity: {store: "postgres://mpr:hunter2@db/identity"}
    regions:
      - {code: FED1, number: 0, upstreams: ["http://10.0.0.7:8080"]}
`

func TestListsReplaceTheDefaultOnes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mpr.yaml")
	if err := os.WriteFile(file, []byte(federal), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, DefaultPort, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Environments) != 1 || len(c.Environments[0].Regions) != 1 || c.Environments[0].Legacy.Host != "" {
		t.Errorf("environments: %+v", c.Environments)
	}
	if got := c.Control.Store; got != "sqlite:"+filepath.Join("from-the-file", "control.db") {
		t.Errorf("control.store %s doesn't follow data", got)
	}
	if len(c.ExemptRoutes) != 2 || c.Tokens.Algorithm != "ES256" {
		t.Errorf("settings that the file leaves out: %+v", c)
	}
	if c, err = Load(file, DefaultPort, "flag", ""); err != nil || c.Data != "flag" {
		t.Errorf("the folder of the command line: %v, %v", c.Data, err)
	}
	shown, err := c.Show()
	if err != nil || strings.Contains(string(shown), "hunter2") {
		t.Errorf("Show: %s, %v", shown, err)
	}
}

func TestWhatIsShownLoads(t *testing.T) {
	want := Default(DefaultPort, "d")
	shown, err := want.Show()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mpr.yaml")
	if err := os.WriteFile(file, shown, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file, 0, "", "")
	if err != nil {
		t.Fatal(err)
	}
	showSame(t, got, want)
}

// One database serves all stores that name no place of their own, each in a schema of its own.
func TestOneDatabaseForAllStores(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mpr.yaml")
	const text = `
stores: {dsn: "postgres://u:hunter2@db/all?sslmode=disable&search_path=acme"}
control: {store: "sqlite:control.db"}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, DefaultPort, "", "")
	if err != nil {
		t.Fatal(err)
	}
	const dsn = "postgres://u:hunter2@db/all?search_path=acme_%s&sslmode=disable"
	for name, got := range map[string]string{
		"production_identity":             c.Environments[0].Identity.Store,
		"production_region_eu01":          c.Environments[0].Regions[2].Store,
		"development_sandbox_region_us01": c.Environments[2].Regions[0].Store,
	} {
		if want := fmt.Sprintf(dsn, name); got != want {
			t.Errorf("%s is at %s, want %s", name, got, want)
		}
	}
	if c.Control.Store != "sqlite:control.db" {
		t.Errorf("the control store, which names its place, is at %s", c.Control.Store)
	}
	if shown, err := c.Show(); err != nil || strings.Contains(string(shown), "hunter2") {
		t.Errorf("Show: %s, %v", shown, err)
	}
	if c, err = Load(file, DefaultPort, "", "postgres://v@other/all"); err != nil || c.Environments[0].Identity.Store != "postgres://v@other/all?search_path=mpr_production_identity" {
		t.Errorf("the database of the command line: %+v, %v", c, err)
	}
}

// One file is one store, however its path is spelled, and whether it is there yet.
func TestOneFileIsNoTwoStores(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"real", "work"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"linked": "real", "real/link.db": "there.db"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "real", "there.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "work"))
	for _, two := range []struct {
		one, other string
		same       bool
	}{
		{"a.db", "./a.db", true},
		{"a.db", filepath.Join(dir, "work", "a.db"), true},
		{"../real/a.db", "../linked/a.db", true},
		{"../real/new/a.db", "../linked/new/a.db", true},
		{"../real/there.db", "../linked/link.db", true},
		{"../real/a.db", "../work/a.db", false},
		{"A.db", "a.db", false},
	} {
		file := filepath.Join(dir, "mpr.yaml")
		text := fmt.Sprintf(strings.Replace(federal, `"postgres://mpr:hunter2@db/identity"`, "%q", 1)+"control: {store: %q}\n", "sqlite:"+two.one, "sqlite:"+two.other)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file, DefaultPort, "", "")
		if told := err != nil && strings.Contains(err.Error(), "is the database of control.store too"); told != two.same || !two.same && err != nil {
			t.Errorf("%s and %s: %v", two.one, two.other, err)
		}
	}
}
