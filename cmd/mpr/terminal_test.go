package main

import "testing"

func TestShorten(t *testing.T) {
	for _, c := range []struct {
		line  string
		width int
		want  string
	}{{"", 79, ""}, {"[###] süd", 9, "[###] süd"}, {"[###] süd", 8, "[###]..."}, {"abcdef", 2, "..."}} {
		if got := shorten(c.line, c.width); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.line, c.width, got, c.want)
		}
	}
}
