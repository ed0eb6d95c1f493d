package acceptance

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mpr/test/loopback"
	"mpr/test/postgres"
)

// "Any number of each; rolling restart and upgrade without a failed call": two processes of a region on one PostgreSQL
// database are replaced one after the other, and killed one after the other.
func TestRegionsOfSeveralProcesses(t *testing.T) {
	s := newTopology(t)
	if s.stores == "" {
		s.stores = postgres.Start(t).DSN()
		s.reconfigure(t, `stores: {dsn: ""}`, fmt.Sprintf("stores: {dsn: %q}", s.stores))
	}
	s.configure(t, "operations: {drain_delay: 1s}\n")
	names := s.severalProcesses(t, "EU01")
	ops := s.observed(t)
	s.refusesToGuess(t)

	s.start(t, append([]string{"control", "login", "US01", "US02", "gateway"}, names...)...)
	for _, name := range names {
		becomes(t, ops[name], 200)
	}
	s.populate(t)
	b := s.balance(t, map[string]string{"gateway": s.Environments[0].API}, ops, "EU01")
	for _, name := range slices.Concat(names, names) {
		for _, each := range names {
			s.getsCalls(t, ops[each], func() {})
		}
		s.stop(t, name)
		b.flows(t)
		// The control role asks the other one, whichever it is.
		var made company
		s.run(t, &made, "company", "create", "--name", "Made without "+name, "--region", "EU01")
		s.start(t, name)
		becomes(t, ops[name], 200)
	}
	b.flows(t)
	b.end(t)

	// One that is lost takes the calls along that it was answering, and no others.
	token := s.machineToken(t, s.app(t, "developer_managed"))
	one := func() { s.projects(t.Context(), token, s.in(t, "EU01").ID).want(t, 200) }
	for _, name := range names {
		for _, each := range names {
			s.getsCalls(t, ops[each], one)
		}
		s.kill(t, name)
		for range 20 {
			one()
		}
		s.start(t, name)
		becomes(t, ops[name], 200)
	}
	s.stop(t, append([]string{"gateway", "control", "login", "US01", "US02"}, names...)...)
}

// severalProcesses has a region consist of two processes, and answers their names.
func (s *topology) severalProcesses(t *testing.T, code string) (names []string) {
	t.Helper()
	data, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`\{code: ` + code + `, (number: \d+), (listen: "[^"]+", internal: "[^"]+")\}`)
	first := line.FindSubmatch(data)
	if first == nil {
		t.Fatalf("no line about %s in %s", code, data)
	}
	a := loopback.FreeAddresses(t, 2)
	s.reconfigure(t, string(first[0]), fmt.Sprintf("{code: %s, %s, processes: [{name: a, %s}, {name: b, listen: %q, internal: %q}]}", code, first[1], first[2], a[0], a[1]))
	return s.split(t, code, "a", "b")
}

// split has several processes take the place of one, and answers what they are called here.
func (s *topology) split(t *testing.T, code string, processes ...string) (names []string) {
	t.Helper()
	args := s.processes[code].args
	delete(s.processes, code)
	for _, name := range processes {
		s.add(t, code+" "+name, &process{args: append(slices.Clone(args), "--process", name), log: &logBook{}})
		names = append(names, code+" "+name)
	}
	return names
}

// reconfigure changes a text of the configuration.
func (s *topology) reconfigure(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), from) {
		t.Fatalf("the configuration doesn't say %s", from)
	}
	if err := os.WriteFile(s.config, []byte(strings.Replace(string(data), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// refusesToGuess: a process that doesn't know which of several it is would take the place of another.
func (s *topology) refusesToGuess(t *testing.T) {
	t.Helper()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--code", "EU01"}, "say by --process which of them this is: a, b"},
		{[]string{"--code", "EU01", "--process", "c"}, `has no process "c": the configuration has a, b`},
		{[]string{"--code", "US01", "--process", "a"}, "leave out --process a"},
	} {
		out, err := s.command(append([]string{"region", "--config", s.config}, c.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) {
			t.Errorf("mpr region %v: %v\n%s", c.args, err, out)
		}
	}
}

// getsCalls waits until a process of a region has got calls from here on, and calls a function meanwhile.
func (s *topology) getsCalls(t *testing.T, ops string, meanwhile func()) {
	t.Helper()
	calls := func() string {
		var lines []string
		for line := range strings.Lines(string(call{URL: ops + "/metrics"}.send(t).want(t, 200).Body)) {
			if strings.HasPrefix(line, "mpr_calls_total{") && strings.Contains(line, `door="region"`) {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	before := calls()
	eventually(t, readyWithin, func() (bool, string) { meanwhile(); return calls() != before, "a process of the region gets no calls" })
}
