package stack

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"mpr/conform"
)

// passage is a request on its way through a proxy that breaks one rule of the contract, and
// the answer to it.
type passage struct {
	method, verb string
	query        url.Values
	in           map[string]any // the body; nil where it is no object

	forward func() // sends the request as it stands; the answer is in what follows
	status  int
	out     map[string]any
	header  http.Header

	// seen is what the proxy remembers.
	seen map[string]string
}

// text reads a member of the body.
func (p *passage) text(name string) string {
	text, _ := p.in[name].(string)
	return text
}

func (p *passage) is(method, verb string) bool { return p.method == method && p.verb == verb }

// number reads a member, such as the epoch.
func number(m map[string]any, name string) int64 {
	v, _ := m[name].(json.Number)
	n, _ := v.Int64()
	return n
}

// list reads a member that is a list.
func list(m map[string]any, name string) []any {
	v, _ := m[name].([]any)
	return v
}

// broken is a proxy in front of an address.
func (s *site) broken(behind string, breaks func(*passage)) string {
	target, err := url.Parse(behind)
	s.check(err)
	straight := httputil.NewSingleHostReverseProxy(target)
	seen := map[string]string{}
	var mu sync.Mutex // of seen; the suite makes one call at a time where it matters
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		p := &passage{method: r.Method, verb: path.Base(r.URL.Path), query: r.URL.Query(), in: object(body), seen: seen}
		p.forward = func() {
			if p.in != nil {
				body, err = json.Marshal(p.in)
				if err != nil {
					return
				}
			}
			out := r.Clone(r.Context())
			out.Body, out.ContentLength, out.URL.RawQuery = io.NopCloser(bytes.NewReader(body)), int64(len(body)), p.query.Encode()
			got := httptest.NewRecorder()
			straight.ServeHTTP(got, out)
			p.status, p.header, p.out = got.Code, got.Header(), object(got.Body.Bytes())
		}
		if breaks(p); p.status == 0 {
			p.forward()
		}
		maps.Copy(w.Header(), p.header)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Del("Content-Length")
		w.WriteHeader(p.status)
		_ = json.NewEncoder(w).Encode(p.out)
	}))
	s.t.Cleanup(server.Close)
	return server.URL
}

func object(data []byte) (o map[string]any) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if dec.Decode(&o) != nil {
		return nil
	}
	if _, err := dec.Token(); err == nil || !json.Valid(data) {
		return nil // something follows it
	}
	return o
}

// breakages are regions that break one rule each, and the checks that say so. What can't be
// checked any more for that reason is skipped, and is no pass.
var breakages = map[string]struct {
	breaks func(*passage)
	door   bool // it is at the region's API
	fails  []string
}{
	"the secret isn't looked at": {breaks: func(p *passage) {
		if p.forward(); p.status == 401 {
			p.status, p.out = 200, map[string]any{}
		}
	}, fails: []string{"secret.required"}},
	"a member that it doesn't know is an error": {breaks: func(p *passage) {
		if _, unknown := p.in["a_member_of_later_times"]; unknown {
			p.status, p.out = 400, map[string]any{"code": "malformed_json", "message": "What is that?"}
		}
	}, fails: []string{"body.unknown-members"}},
	"refusals don't say why": {breaks: func(p *passage) {
		if p.forward(); p.status >= 400 {
			delete(p.out, "message")
		}
	}, fails: []string{"refusal.form"}},
	"a bad cursor is a failure": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "rows") && p.status == 400 && p.query.Has("after") {
			p.status, p.out = 500, map[string]any{"code": "internal", "message": "Something went wrong."}
		}
	}, fails: []string{"rows.cursors"}},
	"a value of the wrong type is a failure": {breaks: func(p *passage) {
		if p.forward(); p.method == "POST" && p.status == 422 && strings.Contains(p.message(), "isn't what that column holds") {
			p.status, p.out = 500, map[string]any{"code": "internal", "message": "Something went wrong."}
		}
	}, fails: []string{"changes.values", "import.values"}},
	"a row is left out of a page": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "rows") && len(list(p.out, "rows")) > 2 {
			p.out["rows"] = list(p.out, "rows")[1:]
		}
	}, fails: []string{"rows.complete", "checksum.whole"}},
	"the limit of a page is ignored": {breaks: func(p *passage) {
		if p.is("GET", "rows") && p.status == 0 {
			if n, err := strconv.Atoi(p.query.Get("limit")); err == nil && n == 7 {
				p.query.Del("limit")
			}
		}
	}, fails: []string{"rows.limit"}},
	"a character is lost": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "rows") {
			for _, r := range list(p.out, "rows") {
				row, _ := r.(map[string]any)
				if name, is := row["name"].(string); is {
					row["name"] = strings.ReplaceAll(name, "\u2028", " ")
				}
			}
		}
	}, fails: []string{"rows.values"}},
	"the checksum is another": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "checksum") && p.status == 200 && !p.query.Has("since") {
			p.sum("companies")
		}
	}, fails: []string{"checksum.whole", "gone.keeps", "changes.unknown-table", "changes.values", "arrival.checksum", "checksum.values", "import.whole"}},
	"the checksum since a version is another": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "checksum") && p.query.Has("since") && p.status == 200 {
			p.sum("rfis")
		}
	}, fails: []string{"arrival.checksum-since", "checksum.since"}},
	"a lower turn is accepted": {breaks: func(p *passage) {
		if p.method == "POST" && p.in != nil {
			if p.forward(); p.status == 409 && p.out["code"] == "mover_replaced" {
				p.in["turn"] = json.Number("1000000")
				p.forward()
			}
		}
	}, fails: []string{"turns.lower"}},
	"the highest turn isn't told": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "state") && number(p.out, "turn") > 3 {
			p.out["turn"] = 3
		}
	}, fails: []string{"turns.highest"}},
	"a second freeze is refused": {breaks: func(p *passage) {
		again := p.is("POST", "freeze") && p.seen["frozen at"] != "" && p.seen["frozen at"] == strconv.FormatInt(number(p.in, "epoch"), 10)
		p.forward()
		if again && p.status == 200 {
			p.status, p.out = 409, map[string]any{"code": "conflict", "message": "It is frozen already."}
		}
		if p.is("POST", "freeze") && p.status == 200 {
			p.seen["frozen at"] = strconv.FormatInt(number(p.in, "epoch"), 10)
		}
	}, fails: []string{"freeze.repeat"}},
	"freeze answers before the last version": {breaks: func(p *passage) {
		if p.forward(); p.is("POST", "freeze") && p.status == 200 {
			p.out["version"] = number(p.out, "version") - 1
		}
	}, fails: []string{"freeze", "door.freeze-ends-writes"}},
	"thaw does with the old epoch": {breaks: func(p *passage) {
		if p.forward(); p.is("POST", "thaw") && p.status == 409 && strings.Contains(p.message(), "is frozen at epoch "+strconv.FormatInt(number(p.in, "epoch"), 10)) {
			p.status = 200
		}
	}, fails: []string{"thaw.newer"}},
	"it isn't told where a company went": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "state") {
			if f, is := p.out["fence"].(map[string]any); is {
				delete(f, "gone_region")
			}
		}
	}, fails: []string{"leave"}},
	"changes leave a gap": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "changes") && len(list(p.out, "changes")) > 100 {
			p.out["changes"] = slices.Delete(list(p.out, "changes"), 1, 2)
		}
	}, fails: []string{"log.kept", "log.pages"}},
	"a shortened log is answered in part": {breaks: func(p *passage) {
		if p.forward(); p.is("GET", "changes") && p.status == 410 {
			p.status, p.out = 200, map[string]any{"changes": []any{}, "version": 1}
		}
	}, fails: []string{"log.shortened"}},
	"a row of another company is taken": {breaks: func(p *passage) {
		if p.forward(); p.is("POST", "rows") && p.status == 422 && strings.Contains(p.message(), "company_id 1,") {
			p.status = 200
		}
	}, fails: []string{"import.values"}},
	"a change is lost": {breaks: func(p *passage) {
		for _, c := range list(p.in, "changes") {
			if change, is := c.(map[string]any); is && p.is("POST", "changes") && change["table"] == "project_users" {
				row, _ := change["row"].(map[string]any)
				if at, is := row["created"].(json.Number); is && at.String() != "" {
					row["created"] = json.Number("1")
				}
			}
		}
	}, fails: []string{"arrival.checksum", "arrival.checksum-since", "rows.values", "checksum.values", "checksum.since", "log.kept"}},
	"a repeated page moves on": {breaks: func(p *passage) {
		key, _ := json.Marshal(p.in)
		if p.forward(); p.is("POST", "rows") && p.status == 200 {
			if p.seen[string(key)] != "" {
				p.out["after"] = "[7]"
			}
			p.seen[string(key)] = "yes"
		}
	}, fails: []string{"import.repeat"}},
	"activate doesn't look at the version": {breaks: func(p *passage) {
		if p.forward(); p.is("POST", "activate") && p.status == 409 && strings.Contains(p.message(), "hasn't arrived at version") && number(p.in, "version") > 0 {
			p.status = 200
		}
	}, fails: []string{"activate.refusals", "import.changes-early"}},
	"purge counts nothing": {breaks: func(p *passage) {
		if p.is("POST", "purge") && p.in != nil {
			if p.forward(); p.status == 200 {
				p.out["deleted"] = 0
			}
		}
	}, fails: []string{"purge"}},
	"abandon keeps what has come": {breaks: func(p *passage) {
		if p.is("POST", "abandon") && strings.HasPrefix(p.text("move"), "conform-") {
			p.in["move"] = "another"
		}
	}, fails: []string{"abandon"}},
	"a frozen company is served": {door: true, breaks: func(p *passage) {
		if p.forward(); p.status == 421 && p.header.Get("Mpr-Moving") == "1" && p.header.Get("Mpr-Region") == "US02" && p.method == "GET" {
			p.status = 200
		}
	}, fails: []string{"door.frozen"}},
	"gateways aren't told to wait": {door: true, breaks: func(p *passage) {
		if p.forward(); p.status == 421 && p.header.Get("Mpr-Region") == "ZZ99" {
			p.header.Del("Mpr-Moving")
		}
	}, fails: []string{"door.returning"}},
	"gateways aren't told where it went": {door: true, breaks: func(p *passage) {
		if p.forward(); p.status == 421 && p.header.Get("Mpr-Moving") == "" && p.header.Get("Mpr-Region") == "ZZ99" {
			p.header.Del("Mpr-Region")
		}
	}, fails: []string{"door.gone"}},
}

// message is what a refusal says.
func (p *passage) message() string {
	text, _ := p.out["message"].(string)
	return text
}

// sum changes the sum of a table.
func (p *passage) sum(table string) {
	tables, _ := p.out["tables"].(map[string]any)
	if one, is := tables[table].(map[string]any); is {
		one["sum"] = strings.Repeat("7", 32)
	}
}

// withMany are checks that bring and read a thousand rows. Where none of them is expected to
// fail they are left out: with them, all that comes later takes many times as long.
var withMany = []string{"changes.apply", "changes.repeat", "arrival.checksum", "arrival.checksum-since", "activate", "rows.values", "checksum.values", "checksum.since",
	"rows.limit", "rows.until", "rows.end", "log.kept", "log.pages", "log.until"}

// checksBeside are the checks to make where these are expected to fail.
func checksBeside(fails []string) (names []string) {
	many := slices.ContainsFunc(fails, func(name string) bool { return slices.Contains(withMany, name) })
	for _, c := range conform.Checks() {
		if c.Name != "pages.bytes" && (many || !slices.Contains(withMany, c.Name)) {
			names = append(names, c.Name)
		}
	}
	return names
}

// A suite that passes everything shows nothing: each rule that a region breaks is found, by
// the checks that are about it and by no others.
func TestBrokenRegionsDoNotConform(t *testing.T) {
	for name, b := range breakages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.more()
			internal, door := s.internal["US02"], s.urls["US02"]
			if b.door {
				door = s.broken(door, b.breaks)
			} else {
				internal = s.broken(internal, b.breaks)
			}
			summary, wrong := s.conforms(internal, door, checksBeside(b.fails)...)
			var failed []string
			for name, r := range wrong {
				if r.Outcome == conform.Fail {
					failed = append(failed, name)
				}
			}
			slices.Sort(failed)
			want := slices.Sorted(slices.Values(b.fails))
			if !slices.Equal(failed, want) || summary.Conforms() {
				for _, r := range wrong {
					t.Logf("%s: %s: expected %s, and got %s %s", r.Name, r.Outcome, r.Want, r.Got, r.Why)
				}
				t.Errorf("failed: %v, want %v; %+v", failed, want, summary)
			}
			if !summary.Serving {
				t.Errorf("the company isn't back: %+v", summary)
			}
		})
	}
}

// more makes some rows, so that tables have more than one.
func (s *site) more() {
	for _, name := range []string{"one", "two", "three"} {
		status, data, err := send("POST", s.api+"/rest/v1.0/projects", s.token, s.company, `{"project":{"name":"`+name+`"}}`)
		if s.check(err); status != 201 {
			s.t.Fatalf("%d %s", status, data)
		}
	}
}
