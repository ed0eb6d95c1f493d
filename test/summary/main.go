package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	s := newSummary(os.Stdout, os.Getenv("CI") == "true")
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(1)
	}
	if !s.close() {
		os.Exit(1)
	}
}

// event is one line of "go test -json"; see "go doc test2json".
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// summary counts the events and prints what must be seen at once.
type summary struct {
	out     io.Writer
	strict  bool
	started time.Time
	// output holds what a test (or, with an empty Test, a package) has printed, until it
	// is known whether anybody wants to see it.
	output map[event]*strings.Builder

	passed, failed, packages int
	// elsewhere are tests that are left to the run on the other engine.
	elsewhere int
	broken    []string
	skipped   []string
}

// ofOneEngine is what the skip of a test begins with that the run on the other SQL engine makes.
const ofOneEngine = "of one engine: "

func newSummary(out io.Writer, strict bool) *summary {
	return &summary{out: out, strict: strict, started: time.Now(), output: map[event]*strings.Builder{}}
}

func (s *summary) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(s.out, lines.Text()) // go's own words, such as a malformed go.mod
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

func (s *summary) take(e event) {
	key := event{Package: e.Package, Test: e.Test}
	switch e.Action {
	case "output":
		if s.output[key] == nil {
			s.output[key] = &strings.Builder{}
		}
		s.output[key].WriteString(e.Output)
		return
	case "build-output":
		fmt.Fprint(s.out, e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	text := s.output[key]
	if text == nil {
		text = &strings.Builder{}
	}
	delete(s.output, key)
	if e.Test == "" {
		s.packageDone(e, text)
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		fmt.Fprintf(s.out, "FAILED %s %s (%.1f s)\n%s", e.Package, e.Test, e.Elapsed, text)
	case "skip":
		why := reason(text)
		if strings.HasPrefix(why, ofOneEngine) {
			s.elsewhere++ // the other engine's run has it
			return
		}
		s.skipped = append(s.skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, why))
	}
}

func (s *summary) packageDone(e event, text *strings.Builder) {
	if e.Action == "skip" {
		return // no test files
	}
	s.packages++
	word := "ok    "
	if e.Action == "fail" {
		word = "FAILED"
		s.broken = append(s.broken, e.Package)
	}
	fmt.Fprintf(s.out, "%s %s (%.1f s)\n", word, e.Package, e.Elapsed)
	if e.Action == "fail" {
		// A panic, a timeout, or a data race that no test was blamed for.
		fmt.Fprint(s.out, text)
	}
}

// reason is the last thing that a skipped test said, without the place where it said it.
func reason(text fmt.Stringer) string {
	said := ""
	for line := range strings.Lines(text.String()) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = line
		}
	}
	if _, after, ok := strings.Cut(said, ".go:"); ok {
		_, said, _ = strings.Cut(after, ": ")
	}
	return said
}

// close prints the end of the summary and says whether all is well.
func (s *summary) close() bool {
	for key, text := range s.output { // a test that never ended: its process died
		if key.Test != "" {
			fmt.Fprintf(s.out, "NEVER ENDED %s %s\n%s", key.Package, key.Test, text)
		}
	}
	for _, line := range s.skipped {
		fmt.Fprintln(s.out, "SKIPPED", line)
	}
	for _, name := range s.broken {
		fmt.Fprintln(s.out, "FAILED ", name)
	}
	if s.elsewhere > 0 {
		fmt.Fprintf(s.out, "%d tests are of one engine, and were left out on the other.\n", s.elsewhere)
	}
	well := s.packages > 0 && s.failed == 0 && len(s.broken) == 0
	if s.strict && len(s.skipped) > 0 {
		fmt.Fprintln(s.out, "With CI=true a skipped test is a failure.")
		well = false
	}
	fmt.Fprintf(s.out, "%d tests passed, %d failed, %d skipped; %d packages, %s\n",
		s.passed, s.failed, len(s.skipped), s.packages, time.Since(s.started).Round(time.Second))
	return well
}
