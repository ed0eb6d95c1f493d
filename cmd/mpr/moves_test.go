package main

import (
	"slices"
	"strings"
	"testing"
)

func TestReadPlan(t *testing.T) {
	got, err := readPlan(strings.NewReader("\ufeffCompany,To\r\n1,EU01\r\n\n# the big ones\n 598134325510145\tUS01 # on Monday\n"))
	if err != nil || !slices.Equal(got, []wantedMove{{1, "EU01"}, {598134325510145, "US01"}}) {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                       "no moves",
		"# nothing\n":            "no moves",
		"1,EU01\n2\n":            "line 2: expected a company and a region",
		"1,EU01,now\n":           "line 1: expected",
		"0,EU01\n":               `line 1: "0"`,
		"1,EU01\ncompany,to\n":   `line 2: "company"`,
		"1,Europe\n":             `line 1: "Europe"`,
		"1,EU01\n2,EU01\n1,US01": "line 3: company 1 is in line 1 already",
	} {
		if list, err := readPlan(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) || list != nil {
			t.Errorf("%q: %v, %v", text, list, err)
		}
	}
}

func FuzzReadPlan(f *testing.F) {
	f.Add("company,to\n1,EU01\n")
	f.Add("1 EU01 # x\n\n2;US01")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readPlan(strings.NewReader(text))
		if (err == nil) == (len(list) == 0) {
			t.Errorf("%v, %v", list, err)
		}
	})
}
