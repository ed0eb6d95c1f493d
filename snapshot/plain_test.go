package snapshot

import (
	"reflect"
	"testing"
)

var mixed = columns{names: []string{"company_id", "name", "n"}, numbers: []bool{true, false, true}}

// FuzzPlainRows holds the fast way of reading a row to the one that knows all of JSON: what the
// first one reads, the second one reads in the same way.
func FuzzPlainRows(f *testing.F) {
	for _, seed := range []string{
		`{"company_id":5,"n":-7,"name":"Pier 7"}`, `{"name":"","n":0,"company_id":9223372036854775807}`,
		`{"company_id":5,"n":1,"name":"a \"quoted\" \\ line\n\u00fc\ud83d\ude00"}`, `{"company_id":5,"n":1,"name":"\u0000"}`, "{\"company_id\":5,\"n\":1,\"name\":\"\xff\"}",
		"{\"company_id\":5,\"n\":1,\"name\":\"a\tb\"}", "{\"company_id\":5,\"n\":1,\"name\":\"\u2028ü\"}", `{"company_id":5,"n":1,"name":"\ud800"}`,
		`{"company_id":05,"n":1,"name":""}`, `{"company_id":5,"n":-0,"name":""}`, `{"company_id":5,"n":1.0,"name":""}`, `{"company_id":5,"n":1e3,"name":""}`,
		`{"company_id":5,"n":9223372036854775808,"name":""}`, `{"company_id":5,"company_id":5,"name":""}`, `{"company_id":5,"n":1}`, `{"company_id":5,"n":1,"name":"","more":1}`,
		`{"company_id":"5","n":1,"name":""}`, `{"company_id":5,"n":1,"name":null}`, `{"company_id":5, "n":1,"name":""}`, `{"company_id":5,"n":1,"name":""}}`, `{"company_id":-,"n":1,"name":""}`,
		`{"company_id":5,"n":1,"name":"x`, `{"company_id":5,"n":1,"name":"\`, `{}`, ``, `{"N":1,"company_id":5,"name":""}`, `{"\u006e":1,"company_id":5,"name":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fast, ok := mixed.readPlain(nil, data)
		slow, err := mixed.readAny(nil, Row{Table: "t", Data: data})
		if ok && (err != nil || !reflect.DeepEqual(fast, slow)) {
			t.Errorf("%s is read as %#v, and otherwise as %#v, %v", data, fast, slow, err)
		}
	})
}

// The fast way is of use only if it reads the rows that regions write.
func TestPlainRowsAreReadFast(t *testing.T) {
	for data, want := range map[string][]any{
		`{"company_id":5,"n":-7,"name":"Pier 7 <north>"}`:    {int64(5), "Pier 7 <north>", int64(-7)},
		`{"company_id":5,"n":0,"name":"\"\\\u00fc\nü \\\""}`: {int64(5), "\"\\ü\nü \\\"", int64(0)},
	} {
		if got, ok := mixed.readPlain(nil, []byte(data)); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as %#v, %v", data, got, ok)
		}
	}
}
