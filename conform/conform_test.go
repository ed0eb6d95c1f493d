package conform

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"mpr/company"
)

// contract is the document, with its lines joined.
func contract(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../docs/region-contract.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What is checked is what the document says, word for word.
func TestRulesAreSentencesOfTheContract(t *testing.T) {
	text := strings.Join(strings.Fields(contract(t)), " ")
	names := map[string]bool{}
	for _, c := range Checks() {
		if !strings.Contains(text, c.Rule) {
			t.Errorf("%s: the contract doesn't say %q", c.Name, c.Rule)
		}
		if names[c.Name] || c.stage == 0 || c.run == nil {
			t.Errorf("%s: the name is taken, or something is missing", c.Name)
		}
		names[c.Name] = true
	}
	if len(names) < 40 {
		t.Errorf("only %d checks", len(names))
	}
}

// The example in the document is what comes out.
func TestWorkedExample(t *testing.T) {
	text := contract(t)
	example := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(text)
	if example == nil {
		t.Fatal("the contract has no example")
	}
	var rows []row
	for line := range strings.Lines(example[1]) {
		r, err := tableOf("projects").readRow(json.RawMessage(line))
		if err != nil {
			t.Fatal(err)
		}
		if r.canonical != strings.TrimSuffix(line, "\n") {
			t.Errorf("the canonical form is %s, and the contract has %s", r.canonical, line)
		}
		rows = append(rows, r)
	}
	said, err := json.Marshal(sumUp(rows))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || !strings.Contains(text, "`"+string(said)+"`") {
		t.Errorf("the contract doesn't have %s", said)
	}
	if got := sumUp(nil); got.Sum != strings.Repeat("0", 32) {
		t.Errorf("of no rows the sum is %s", got.Sum)
	}
}

// The tables of the document are those that the suite sends; that a region takes them shows
// that they are its own.
func TestDocumentedTables(t *testing.T) {
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (.*?) ?\\| (.*?) ?\\|$").FindAllStringSubmatch(contract(t), -1) {
		sample, is := samples(1)[m[1]]
		if !is {
			continue // of another table of the document
		}
		names = append(names, m[1])
		columns := map[string]bool{"company_id": true} // by name: is it a number
		for _, c := range regexp.MustCompile("(\\*?)`([a-z_]+)`").FindAllStringSubmatch(m[2]+","+m[3], -1) {
			columns[c[2]] = c[1] == "*"
		}
		var key []string
		for _, c := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(m[2], -1) {
			key = append(key, c[1])
		}
		if !slices.Equal(key, tableOf(m[1]).key) {
			t.Errorf("%s: the key in the contract is %v", m[1], key)
		}
		if len(columns) != len(sample) {
			t.Errorf("%s has the columns %s, and the contract has %v", m[1], columnsOf(sample), columns)
		}
		for name, value := range sample {
			_, isText := value.(string)
			if number, there := columns[name]; !there || number == isText {
				t.Errorf("%s.%s: the contract has it: %v, as a number: %v", m[1], name, there, number)
			}
		}
	}
	if !slices.Equal(names, tableNames()) {
		t.Errorf("the contract has the tables %v", names)
	}
}

// "In which their order makes no difference", and the sums wrap around.
func TestSums(t *testing.T) {
	var rows []row
	for _, c := range samples(company.ID(5)) {
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		r, err := table{name: "any"}.readRow(data)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	one := sumUp(rows)
	slices.Reverse(rows)
	if other := sumUp(rows); one != other || one.Rows != int64(len(rows)) || len(one.Sum) != 32 {
		t.Errorf("%v, and the other way around %v", one, other)
	}
}

// A row's canonical form says the same as the row, and is its own canonical form.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{}`, `{"b":1,"a":"x"}`, `{"a":"\u2028<&>/\u00e9\ud83d\ude00\u0001"}`, `{"a":-9223372036854775808}`, `{"a":1.5}`, `{"a":null}`, `[`, `{"a":1}x`, `null`, ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		columns, err := readColumns(json.RawMessage(text))
		if err != nil {
			return
		}
		form, err := canonical(columns)
		if err != nil {
			return
		}
		again, err := readColumns(json.RawMessage(form))
		if err != nil || !utf8.ValidString(form) {
			t.Fatalf("%q has the form %q, which can't be read: %v", text, form, err)
		}
		second, err := canonical(again)
		if err != nil || second != form || len(again) != len(columns) {
			t.Fatalf("%q has the form %q, and that has %q, %v", text, form, second, err)
		}
		for name, value := range columns {
			if s, is := value.(string); is && again[name] != s {
				t.Fatalf("%q: %q became %q", text, s, again[name])
			}
		}
	})
}

// What a region answers may be anything.
func FuzzReadRow(f *testing.F) {
	f.Add(`{"company_id":1,"project_id":2,"rfi_id":3}`)
	f.Add(`{"project_id":"2"}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, table := range schema {
			r, err := table.readRow(json.RawMessage(text))
			if err == nil && len(r.key) != len(table.key) {
				t.Fatalf("%q: a key of %d columns", text, len(r.key))
			}
			w := &twin{rows: map[string][]row{}}
			if err := w.apply(entry{1, table.name, false, json.RawMessage(text)}); err == nil && len(w.rows[table.name]) != 1 {
				t.Fatalf("%q: applied, and not there", text)
			}
		}
	})
}
