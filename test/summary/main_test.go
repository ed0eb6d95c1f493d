package main

import (
	"bytes"
	"strings"
	"testing"

	"mpr/test/engine"
)

const run = `{"Action":"start","Package":"mpr/a"}
{"Action":"run","Package":"mpr/a","Test":"TestGood"}
{"Action":"pass","Package":"mpr/a","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"mpr/a","Test":"TestLazy","Output":"    a_test.go:7: chromium is missing\n"}
{"Action":"output","Package":"mpr/a","Test":"TestLazy","Output":"--- SKIP: TestLazy (0.00s)\n"}
{"Action":"skip","Package":"mpr/a","Test":"TestLazy","Elapsed":0}
{"Action":"pass","Package":"mpr/a","Elapsed":0.2}
`

const other = `{"Action":"output","Package":"mpr/a","Test":"TestFile","Output":"    a_test.go:7: ` + engine.Skipped + `it fills a file\n"}
{"Action":"skip","Package":"mpr/a","Test":"TestFile","Elapsed":0}
`

const failure = `{"Action":"output","Package":"mpr/b","Test":"TestBad","Output":"    b_test.go:9: got 1, want 2\n"}
{"Action":"fail","Package":"mpr/b","Test":"TestBad","Elapsed":0.1}
{"Action":"fail","Package":"mpr/b","Elapsed":0.2}
`

func TestSummary(t *testing.T) {
	for name, c := range map[string]struct {
		in     string
		strict bool
		well   bool
		last   string
		tells  []string
	}{
		"a skip is told":  {in: run, well: true, last: "1 tests passed, 0 failed, 1 skipped; 1 packages, 0s", tells: []string{"SKIPPED mpr/a TestLazy: chromium is missing"}},
		"a skip fails CI": {in: run, strict: true, last: "1 tests passed, 0 failed, 1 skipped; 1 packages, 0s"},
		"a test of the other engine is no skip": {
			in: other + `{"Action":"pass","Package":"mpr/a","Elapsed":0.2}` + "\n", strict: true, well: true,
			last: "0 tests passed, 0 failed, 0 skipped; 1 packages, 0s", tells: []string{"1 tests are of one engine"},
		},
		"a failure shows its log": {in: run + failure, last: "1 tests passed, 1 failed, 1 skipped; 2 packages, 0s", tells: []string{"FAILED mpr/b TestBad", "got 1, want 2"}},
		"a package that doesn't build": {
			in:    `{"ImportPath":"mpr/c","Action":"build-output","Output":"c.go:1: broken\n"}` + "\n" + `{"Action":"fail","Package":"mpr/c","Elapsed":0}` + "\n",
			last:  "0 tests passed, 0 failed, 0 skipped; 1 packages, 0s",
			tells: []string{"c.go:1: broken", "FAILED  mpr/c"},
		},
		"a test whose process died": {
			in:    `{"Action":"output","Package":"mpr/d","Test":"TestLong","Output":"halfway\n"}` + "\n" + `{"Action":"fail","Package":"mpr/d","Elapsed":600}` + "\n",
			last:  "0 tests passed, 0 failed, 0 skipped; 1 packages, 0s",
			tells: []string{"NEVER ENDED mpr/d TestLong", "halfway"},
		},
		"no tests at all": {last: "0 tests passed, 0 failed, 0 skipped; 0 packages, 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := newSummary(&out, c.strict)
			if err := s.read(strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			if got := s.close(); got != c.well {
				t.Errorf("all is well: %v, want %v", got, c.well)
			}
			if !strings.HasSuffix(out.String(), c.last+"\n") {
				t.Errorf("last line isn't %q in:\n%s", c.last, &out)
			}
			for _, words := range c.tells {
				if !strings.Contains(out.String(), words) {
					t.Errorf("%q isn't told in:\n%s", words, &out)
				}
			}
		})
	}
}
