package structure

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "mpr/"

// mayImport says which packages of ours each top-level package needs, and why no others.
// "Needs point one way: cmd -> stack -> roles -> directory, token, store, intercom, paging ->
// company, rules, problem."
var mayImport = map[string]struct {
	packages []string
	reason   string
}{
	"company": {nil, "the shared words mean the same everywhere only if they depend on nothing"},
	"problem": {nil, "every package answers with problems, so problems may know none of them"},
	"rules":   {words, "the seed as pure functions: no I/O, so nothing that does I/O"},
	"config":  {[]string{"company", "rules"}, "it says what the operator wants, and starts nothing"},
	"store":   {[]string{"lockfile", "problem"}, "it opens engines and knows no table of anybody"},

	"lockfile": {nil, "whatever keeps files may lock them, so it knows nothing of what is in them"},
	"observe":  {[]string{"company", "problem"}, "it sees calls, and knows nothing of who answers them"},
	"paging":   {[]string{"problem"}, "lists look the same whoever answers them, so it knows nothing of what is listed"},
	"intercom": {[]string{"problem"}, "every role calls others by it, so it may know none of them"},

	"directory": {words, "it keeps placements, and knows nothing of tokens and roles"},
	"ledger":    {append(slices.Clone(words), "directory", "store"), "it counts what others tell it, whatever role they play"},
	"limit":     {append(slices.Clone(words), "directory"), "it counts calls of apps by their client ids, and knows nothing of the roles that let them through"},
	"token":     {append(slices.Clone(words), "directory"), "a verifier follows its buckets as the directory does, and works without the stores and the login service"},

	"pki": {[]string{"directory"}, "it knows names of roles and nothing else of them; files are replaced as the directory replaces its copies"},

	"snapshot": {[]string{"problem", "store"}, "it carries rows from one store to another, whatever they say"},
	"move":     {append(slices.Clone(words), "directory", "intercom", "store"), "it reaches regions by their contract and the directory by its own small interface, so that it needs no role"},
	"webhook":  {append(slices.Clone(words), "intercom", "move", "store"), "it reads from the queue what to tell, and asks the login service whom by its internal listener: moves go on without it, and know nothing of it"},
	"operator": {[]string{"problem", "store"}, "it keeps who may do what, and knows nothing of what there is to do"},
	"conform":  {[]string{"company"}, "it calls a region as a stranger does: a mistake in what it shared with the mover or with our region would be in both, and found by neither"},
	"sandbox":  {[]string{"company", "problem", "intercom"}, "it reaches regions and login services by their internal listeners, and directories through its own small interface, so that it needs none of them"},

	"login":   {append(slices.Clone(roleNeeds), "snapshot"), aRole},
	"gateway": {roleNeeds, aRole},
	"region":  {append(slices.Clone(roleNeeds), "snapshot"), aRole},
	"console": {[]string{"company", "control", "ledger", "move", "operator", "problem", "rules"}, "pages ask the admin API by control's client, as commands do, so that they can do nothing that a command can't; the rest are the words of its answers"},
	"control": {append(slices.Clone(roleNeeds), "move", "operator", "sandbox", "webhook"), aRole},

	"stack":           {slices.Concat(roleNeeds, roles, []string{"config", "console", "lockfile", "move", "operator", "pki", "sandbox", "webhook"}), "the one place where roles are wired to one another"},
	"cmd":             {append(slices.Clone(words), "config", "conform", "control", "lockfile", "pki", "stack"), "commands make certificates, start a stack, call the admin API by control's client, or hold a region to its contract"},
	"bench":           {slices.Concat(roleNeeds, []string{"gateway"}), "it measures a role as its operators run it, without the stack around it"},
	"bench/console":   {[]string{"company", "control", "directory", "ledger", "login", "operator", "store"}, "it stands outside, as operators do, and opens stores only to make a million companies in them"},
	"bench/directory": {[]string{"company", "directory"}, "it stands outside, and opens the directory as control does and a replica as gateways do"},
	"bench/gateway":   {[]string{"company", "config", "control", "directory", "stack"}, "it stands outside, as clients and operators do, and runs the gateway itself only to profile it"},
	"bench/login":     {[]string{"control"}, "it stands outside, as clients and operators do"},
	"bench/machine":   {nil, "it starts processes, whatever they are"},
	"bench/move":      {[]string{"company", "control", "move", "region", "store"}, "it stands outside, as clients and operators do, and opens a region's store only to make a large company in it"},
	"test":            {nil, "these tests stand outside, where the users stand"},
	"test/faults":     {[]string{"company", "config", "control", "directory", "move", "stack"}, "it starts the system's processes itself, to make their movers wait and their clocks jump"},
	"deploy":          {nil, "a module of its own: it checks files, and needs nothing of the product"},
	"deps":            {nil, "it only holds on to modules"},
}

var (
	words     = []string{"company", "problem", "rules"}
	roleNeeds = append(slices.Clone(words), "directory", "intercom", "ledger", "limit", "observe", "paging", "store", "token")
	roles     = []string{"control", "gateway", "login", "region"}
)

const aRole = "a role that imported another could not run without it, as a process of its own"

func TestImports(t *testing.T) {
	for _, f := range files(t) {
		rule, known := mayImport[f.Package]
		if !known {
			rule, known = mayImport[f.Top()]
		}
		if !known {
			t.Errorf("%s: the package %q has no rule: add what it may import, and why, to mayImport", f.Path, f.Top())
			continue
		}
		for _, imported := range f.Imports {
			ours, is := strings.CutPrefix(imported, module)
			if !is || top(ours) == f.Top() || slices.Contains(rule.packages, top(ours)) {
				continue
			}
			if f.Test && !slices.Contains(roles, top(ours)) && top(ours) != "stack" && f.Top() != "test" {
				continue // tests of a package may set up the packages below the roles
			}
			t.Errorf("%s imports %s: %s", f.Path, imported, rule.reason)
		}
	}
}

// onlyIn says where code of others may be imported.
var onlyIn = []struct {
	prefix   string
	packages []string
	reason   string
}{
	{"modernc.org/sqlite", []string{"store"}, "one package knows the SQL engines"},
	{"github.com/jackc/pgx", []string{"store", "test"}, "one package knows the SQL engines; test/engine makes databases for tests, and test/postgres asks a server whether it is there"},
	{"github.com/pressly/goose", []string{"store"}, "one package runs migrations"},
	{"github.com/nats-io/nats-server", []string{"directory", "test"}, "one package runs the embedded NATS server; test/nodes runs servers as processes of their own"},
	{"github.com/nats-io/nats.go", []string{"directory", "limit", "token", "stack", "bench"}, "the roles see the directory and the tokens, not the bus behind them"},
	{"github.com/prometheus", []string{"observe"}, "one package counts, and bounds what labels there are"},
	{"go.opentelemetry.io/otel", []string{"observe", "store"}, "one package makes spans; statements become spans where databases are opened"},
	{"github.com/XSAM/otelsql", []string{"store"}, "one package knows the SQL engines"},
	{"github.com/go-jose/go-jose", []string{"token"}, "one package makes and reads signatures"},
	{"github.com/alecthomas/kong", []string{"cmd"}, "only commands parse command lines"},
	{"go.yaml.in/yaml", []string{"config"}, "one package reads the configuration"},
	{"golang.org/x/crypto/argon2", []string{"login"}, "only the login service sees passwords"},
	{"github.com/chromedp", nil, "a browser is for tests"},
	{"github.com/rogpeppe/go-internal", nil, "test scripts are for tests"},
	{"golang.org/x/oauth2", nil, "we are the server; the client is for tests"},
}

func TestImportsOfOthers(t *testing.T) {
	for _, f := range files(t) {
		if f.Test || f.Top() == "deps" {
			continue
		}
		for _, imported := range f.Imports {
			for _, rule := range onlyIn {
				if (imported == rule.prefix || strings.HasPrefix(imported, rule.prefix+"/")) && !slices.Contains(rule.packages, f.Top()) {
					t.Errorf("%s imports %s: %s", f.Path, imported, rule.reason)
				}
			}
		}
	}
}

// The rules decide from plain facts: no I/O and no clock of their own.
func TestPurePackages(t *testing.T) {
	impure := []string{"context", "database/sql", "io", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "sync"}
	for _, f := range files(t) {
		if f.Test || f.Top() != "rules" && f.Top() != "company" {
			continue
		}
		for _, imported := range f.Imports {
			if slices.Contains(impure, imported) {
				t.Errorf("%s imports %s: this package is pure functions", f.Path, imported)
			}
		}
		for _, called := range callsOf(f, "time", "Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker") {
			t.Errorf("%s: the time comes from the caller", called)
		}
	}
}

// Names that say nothing invite everything.
func TestPackageNames(t *testing.T) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "model", "models", "type", "types", "misc", "shared", "lib", "base", "core", "internal", "pkg", "http", "errors"}
	seen := map[string]bool{}
	for _, f := range files(t) {
		if seen[f.Package] {
			continue
		}
		seen[f.Package] = true
		if slices.Contains(empty, path.Base(f.Package)) {
			t.Errorf("the package %s has a name that says nothing of what it is for", f.Package)
		}
	}
}
