package config

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decode sets what node says in v, a settable value, and notes what doesn't fit. It is
// ours rather than the library's, because the library stops telling at the first wrong
// line of each value, speaks of Go types, and lets a setting stand twice.
func (f *findings) decode(path string, node *yaml.Node, v reflect.Value) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias // our types don't nest in themselves: an alias can't lead in circles
	}
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" {
		f.add(path, "has no value: write one, or remove the line to keep the default")
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		f.decodeText(path, node, u)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		f.decodeStruct(path, node, v)
	case reflect.Slice:
		f.decodeList(path, node, v)
	default:
		f.decodeScalar(path, node, v)
	}
}

func (f *findings) decodeStruct(path string, node *yaml.Node, v reflect.Value) {
	if node.Kind != yaml.MappingNode {
		f.add(path, "expected settings below it, one a line: %s", strings.Join(settings(v.Type()), ", "))
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		setting := key.Value
		if path != "" {
			setting = path + "." + key.Value
		}
		if first, ok := f.lines[setting]; ok {
			f.list = append(f.list, Mistake{key.Line, setting, "stands here again, first on line " + strconv.Itoa(first) + ": remove one of the two"})
			continue
		}
		f.lines[setting] = key.Line
		known := settings(v.Type())
		at := slices.Index(known, key.Value)
		if at < 0 {
			f.add(setting, "is not a setting%s", suggestion(key.Value, known))
			continue
		}
		f.decode(setting, value, v.Field(at))
	}
}

// decodeList replaces the list: lists aren't merged with the default ones.
func (f *findings) decodeList(path string, node *yaml.Node, v reflect.Value) {
	if node.Kind != yaml.SequenceNode {
		f.add(path, "expected a list: one entry a line, each after a dash, or []")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content))
	for i, entry := range node.Content {
		item := path + "[" + strconv.Itoa(i) + "]"
		f.lines[item] = entry.Line
		f.decode(item, entry, list.Index(i))
	}
	v.Set(list)
}

func (f *findings) decodeText(path string, node *yaml.Node, u encoding.TextUnmarshaler) {
	if node.Kind != yaml.ScalarNode {
		f.add(path, "expected one value")
		return
	}
	if err := u.UnmarshalText([]byte(node.Value)); err != nil {
		f.add(path, "%v", err)
	}
}

func (f *findings) decodeScalar(path string, node *yaml.Node, v reflect.Value) {
	expect := func(what string) { f.add(path, "expected %s, not %s", what, spell(node)) }
	if node.Kind != yaml.ScalarNode {
		f.add(path, "expected one value")
		return
	}
	switch v.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(node.Value)
		if err != nil || node.ShortTag() != "!!str" {
			expect("a duration such as 500ms, 90s, 10m or 2h")
			return
		}
		v.SetInt(int64(d))
	case string:
		if node.ShortTag() != "!!str" {
			expect("a text (put quotes around it)")
			return
		}
		v.SetString(node.Value)
	case bool:
		if node.ShortTag() != "!!bool" {
			expect("true or false")
			return
		}
		v.SetBool(node.Value[0] == 't' || node.Value[0] == 'T')
	case float64:
		n, err := strconv.ParseFloat(strings.ReplaceAll(node.Value, "_", ""), 64)
		if tag := node.ShortTag(); err != nil || tag != "!!float" && tag != "!!int" {
			expect("a number such as 0.5")
			return
		}
		v.SetFloat(n)
	default: // int and int64
		n, err := strconv.ParseInt(strings.ReplaceAll(node.Value, "_", ""), 10, 64)
		if err != nil || node.ShortTag() != "!!int" {
			expect("a whole number")
			return
		}
		v.SetInt(n)
	}
}

// spell shows what stands in the file; not much of it, in case it is a secret that was
// put into the wrong place.
func spell(node *yaml.Node) string {
	const most = 24
	if r := []rune(node.Value); len(r) > most {
		return strconv.Quote(string(r[:most])) + "..."
	}
	return strconv.Quote(node.Value)
}

// settings are the names of a struct's fields in the file, in the order of the fields.
func settings(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("yaml")
	}
	return names
}

// suggestion names the setting that was meant or, where none is near, all there are.
func suggestion(wrong string, known []string) string {
	best, distance := "", 4
	for _, k := range known {
		if d := edits(strings.ToLower(wrong), k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	if best != "" {
		return ": did you mean " + best + "?"
	}
	return ": there are " + strings.Join(known, ", ")
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
