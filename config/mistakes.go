package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Mistake is one thing that is wrong with a configuration file.
type Mistake struct {
	// Line is where it stands, from 1; 0 where no line of the file is to blame.
	Line int
	// Setting is the path of the setting, such as environments[0].login.host.
	Setting string
	// Text says what is wrong and what to write instead.
	Text string
}

// Mistakes is the error of a configuration that can't be used: all that is wrong with
// it, in the order of the file.
type Mistakes struct {
	// File is the name of the file as the operator gave it; empty for the defaults.
	File string
	List []Mistake
}

func (m *Mistakes) Error() string {
	var b strings.Builder
	name := m.File
	if name == "" {
		name = "the configuration"
	}
	if len(m.List) == 1 {
		fmt.Fprintf(&b, "%s has a mistake:", name)
	} else {
		fmt.Fprintf(&b, "%s has %d mistakes:", name, len(m.List))
	}
	for _, one := range m.List {
		b.WriteString("\n  ")
		if one.Line > 0 {
			fmt.Fprintf(&b, "%s:%d: ", name, one.Line)
		}
		if one.Setting != "" {
			b.WriteString(one.Setting + ": ")
		}
		b.WriteString(one.Text)
	}
	return b.String()
}

// findings collects mistakes and knows on which line each setting stands.
type findings struct {
	lines map[string]int
	list  []Mistake
}

func newFindings() *findings { return &findings{lines: map[string]int{}} }

// add notes a mistake in a setting. A setting is told of once: what comes after the
// first mistake follows from it as a rule.
func (f *findings) add(setting, format string, args ...any) {
	if slices.ContainsFunc(f.list, func(m Mistake) bool { return m.Setting == setting }) {
		return
	}
	f.list = append(f.list, Mistake{f.line(setting), setting, fmt.Sprintf(format, args...)})
}

// line is the line of the setting or, where the file doesn't have it, of what it
// belongs to.
func (f *findings) line(setting string) int {
	for setting != "" {
		if n, ok := f.lines[setting]; ok {
			return n
		}
		setting = setting[:max(strings.LastIndexAny(setting, ".["), 0)]
	}
	return 0
}

// err is nil where nothing is wrong.
func (f *findings) err(file string) error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b Mistake) int { return cmp.Compare(a.Line, b.Line) })
	return &Mistakes{File: file, List: f.list}
}
