package conform

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// table is a table of the contract, and the columns of its key after the company's.
type table struct {
	name string
	key  []string
}

// schema are the tables in the order in which they are copied.
var schema = []table{
	{"companies", nil},
	{"memberships", []string{"user_id"}},
	{"installations", []string{"app_id"}},
	{"permitted_projects", []string{"app_id", "project_id"}},
	{"projects", []string{"project_id"}},
	{"project_users", []string{"project_id", "user_id"}},
	{"rfis", []string{"project_id", "rfi_id"}},
}

func tableNames() []string {
	names := make([]string, len(schema))
	for i, t := range schema {
		names[i] = t.name
	}
	return names
}

// tableOf answers the table of that name; the zero value where there is none.
func tableOf(name string) table {
	i := slices.IndexFunc(schema, func(t table) bool { return t.name == name })
	if i < 0 {
		return table{}
	}
	return schema[i]
}

// row is a row as it came over the wire.
type row struct {
	key  []int64
	data json.RawMessage
	// canonical is the form that digests are made of; it tells equal rows as well.
	canonical string
}

// readRow reads a row, and wants the columns of its key to be there.
func (t table) readRow(data json.RawMessage) (row, error) {
	r := row{data: data}
	columns, err := readColumns(data)
	if err != nil {
		return r, err
	}
	if r.canonical, err = canonical(columns); err != nil {
		return r, err
	}
	r.key, err = t.keyIn(columns)
	return r, err
}

// keyIn is the key of a row, without the company.
func (t table) keyIn(columns map[string]any) ([]int64, error) {
	key := make([]int64, len(t.key))
	for i, name := range t.key {
		number, _ := columns[name].(json.Number)
		var err error
		if key[i], err = number.Int64(); err != nil {
			return nil, fmt.Errorf("a row of %s has no whole number %s: %.200s", t.name, name, fmt.Sprint(columns[name]))
		}
	}
	return key, nil
}

// cursor is a key as the contract writes it.
func cursor(key []int64) string {
	if key == nil {
		key = []int64{}
	}
	data, _ := json.Marshal(key) // numbers always have a form
	return string(data)
}

func readColumns(data json.RawMessage) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var columns map[string]any
	if err := dec.Decode(&columns); err != nil || columns == nil {
		return nil, fmt.Errorf("a row is no JSON object: %.200s", data)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows a row: %.200s", data)
	}
	return columns, nil
}

// canonical writes a row in the canonical form of RFC 8785, for whole numbers and text.
func canonical(columns map[string]any) (string, error) {
	var out strings.Builder
	for i, name := range slices.Sorted(maps.Keys(columns)) {
		out.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		quote(&out, name)
		out.WriteByte(':')
		switch v := columns[name].(type) {
		case string:
			quote(&out, v)
		case json.Number:
			n, err := strconv.ParseInt(v.String(), 10, 64)
			if err != nil {
				return "", fmt.Errorf("the column %s is %s, which is no whole number of 64 bits", name, v)
			}
			fmt.Fprint(&out, n)
		default:
			return "", fmt.Errorf("the column %s is neither a whole number nor a text: %.100s", name, fmt.Sprint(v))
		}
	}
	if len(columns) == 0 {
		out.WriteByte('{')
	}
	return out.String() + "}", nil
}

// quote writes a text by RFC 8785 section 3.2.2.2: what must be escaped is, and nothing else.
func quote(out *strings.Builder, text string) {
	out.WriteByte('"')
	for text != "" {
		i := strings.IndexFunc(text, func(r rune) bool { return r < 0x20 || r == '"' || r == '\\' })
		if i < 0 {
			out.WriteString(text)
			break
		}
		out.WriteString(text[:i])
		if short, ok := escapes[text[i]]; ok {
			out.WriteString(short)
		} else {
			fmt.Fprintf(out, `\u%04x`, text[i])
		}
		text = text[i+1:]
	}
	out.WriteByte('"')
}

var escapes = map[byte]string{'\b': `\b`, '\t': `\t`, '\n': `\n`, '\f': `\f`, '\r': `\r`, '"': `\"`, '\\': `\\`}

// sum is what the contract's checksum says of a table.
type sum struct {
	Rows int64  `json:"rows"`
	Sum  string `json:"sum"`
}

func (s sum) String() string { return fmt.Sprintf("%d rows with the sum %s", s.Rows, s.Sum) }

// sumUp sums up the digests of rows: big numbers, cut to 64 bits at the end.
func sumUp(rows []row) sum {
	var words [2]big.Int
	for _, r := range rows {
		digest := sha256.Sum256([]byte(r.canonical))
		for i := range words {
			words[i].Add(&words[i], new(big.Int).SetBytes(digest[8*i:8*i+8]))
		}
	}
	limit := new(big.Int).Lsh(big.NewInt(1), 64)
	for i := range words {
		words[i].Mod(&words[i], limit)
	}
	return sum{int64(len(rows)), fmt.Sprintf("%016x%016x", &words[0], &words[1])}
}

// entry is one of the change log.
type entry struct {
	Version int64           `json:"version"`
	Table   string          `json:"table"`
	Deleted bool            `json:"deleted"`
	Row     json.RawMessage `json:"row"`
}

// twin is a company as the suite has it: in the part of the region where it lives meanwhile.
type twin struct {
	version int64
	rows    map[string][]row // by table, in the order of their keys
	// log are the changes that were made here, in their order.
	log []entry
}

func byKey(a, b row) int { return slices.Compare(a.key, b.key) }

// find answers where a row of that key is, or belongs.
func find(rows []row, key []int64) (int, bool) {
	return slices.BinarySearchFunc(rows, key, func(r row, key []int64) int { return slices.Compare(r.key, key) })
}

// write makes a change, as a region does: the row as it is afterwards, or the key of one that
// is deleted.
func (w *twin) write(t table, deleted bool, columns map[string]any) error {
	data, err := json.Marshal(columns)
	if err != nil {
		return err
	}
	w.version++
	e := entry{w.version, t.name, deleted, data}
	w.log = append(w.log, e)
	return w.apply(e)
}

// apply brings the rows up to an entry of a change log.
func (w *twin) apply(e entry) error {
	t := tableOf(e.Table)
	if t.name == "" {
		return fmt.Errorf("the change log has a row of %q, and there is no such table", e.Table)
	}
	columns, err := readColumns(e.Row)
	if err != nil {
		return err
	}
	key, err := t.keyIn(columns)
	if err != nil {
		return err
	}
	rows := w.rows[t.name]
	i, there := find(rows, key)
	switch {
	case e.Deleted && there:
		rows = slices.Delete(rows, i, i+1)
	case e.Deleted:
	default:
		r, err := t.readRow(e.Row)
		if err != nil {
			return err
		}
		if there {
			rows[i] = r
		} else {
			rows = slices.Insert(rows, i, r)
		}
	}
	w.rows[t.name] = rows
	return nil
}

func (w *twin) sums() map[string]sum {
	sums := map[string]sum{}
	for _, t := range schema {
		sums[t.name] = sumUp(w.rows[t.name])
	}
	return sums
}

// touched sums up the rows that entries name and that are still there, each once.
func (w *twin) touched(log []entry) (map[string]sum, error) {
	keys := map[string]map[string][]int64{}
	for _, e := range log {
		t := tableOf(e.Table)
		columns, err := readColumns(e.Row)
		if err != nil {
			return nil, err
		}
		key, err := t.keyIn(columns)
		if err != nil {
			return nil, err
		}
		if keys[t.name] == nil {
			keys[t.name] = map[string][]int64{}
		}
		keys[t.name][cursor(key)] = key
	}
	sums := map[string]sum{}
	for _, t := range schema {
		var rows []row
		for _, key := range keys[t.name] {
			if i, there := find(w.rows[t.name], key); there {
				rows = append(rows, w.rows[t.name][i])
			}
		}
		sums[t.name] = sumUp(rows)
	}
	return sums, nil
}

// total counts the rows of all tables.
func (w *twin) total() (n int64) {
	for _, rows := range w.rows {
		n += int64(len(rows))
	}
	return n
}

// differences says what of other isn't as it is here; "" where nothing is.
func (w *twin) differences(other map[string][]row) string {
	var all []string
	for _, t := range schema {
		here, there := w.rows[t.name], other[t.name]
		for _, r := range here {
			i, found := find(there, r.key)
			switch {
			case !found:
				all = append(all, fmt.Sprintf("%s lacks the row %s", t.name, cursor(r.key)))
			case there[i].canonical != r.canonical:
				all = append(all, fmt.Sprintf("the row %s of %s is %.150s and not %.150s", cursor(r.key), t.name, there[i].canonical, r.canonical))
			}
		}
		for _, r := range there {
			if _, found := find(here, r.key); !found {
				all = append(all, fmt.Sprintf("%s has a row %s that it shouldn't have", t.name, cursor(r.key)))
			}
		}
	}
	return few(all)
}

// few joins what may be many.
func few(all []string) string {
	const most = 4
	if len(all) > most {
		all = append(all[:most:most], fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(all, "; ")
}

// different says in which tables two checksums differ.
func different(want, got map[string]sum) string {
	var all []string
	names := slices.Collect(maps.Keys(want))
	for name := range got {
		if _, ok := want[name]; !ok {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, cmp.Compare[string])
	for _, name := range names {
		if want[name] != got[name] {
			all = append(all, fmt.Sprintf("%s: %v, and computed are %v", name, got[name], want[name]))
		}
	}
	return few(all)
}
