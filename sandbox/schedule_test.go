package sandbox

import (
	"testing"
	"time"
)

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return t
}

// "The first working day of each month."
func TestFirstWorkingDay(t *testing.T) {
	for _, month := range []struct {
		year  int
		month time.Month
		want  string
		why   string
	}{
		{2026, time.July, "2026-07-01 00:00", "begins on a Wednesday"},
		{2026, time.June, "2026-06-01 00:00", "begins on a Monday"},
		{2026, time.May, "2026-05-01 00:00", "begins on a Friday"},
		{2026, time.August, "2026-08-03 00:00", "begins on a Saturday"},
		{2026, time.November, "2026-11-02 00:00", "begins on a Sunday"},
		{2027, time.January, "2027-01-01 00:00", "begins on a Friday, and a holiday is a working day to us"},
		{2025, 13, "2026-01-01 00:00", "is January of the year after"},
		{2026, 0, "2025-12-01 00:00", "is December of the year before"},
	} {
		if got := FirstWorkingDay(month.year, month.month); !got.Equal(at(month.want)) {
			t.Errorf("%d-%d %s: got %s", month.year, month.month, month.why, got)
		}
	}
}

func TestDue(t *testing.T) {
	const march = "2026-03-02 00:00" // the 1st is a Sunday
	for _, c := range []struct {
		name              string
		since, last, fail string // last and fail: when refreshes began that came to their end, or failed
		now               string
		due               bool
		next              string
	}{
		{"a new environment waits for its first day", "2026-02-10 12:00", "", "", "2026-02-27 23:59", false, march},
		{"the weekend isn't it", "2026-02-10 12:00", "", "", "2026-03-01 23:59", false, march},
		{"the first moment is", "2026-02-10 12:00", "", "", march, true, "2026-04-01 00:00"},
		{"missed, and made up for days later", "2026-02-10 12:00", "", "", "2026-03-20 08:00", true, "2026-04-01 00:00"},
		{"missed for months", "2025-06-10 12:00", "2025-07-01 00:00", "", "2026-03-01 10:00", true, march},
		{"done by the schedule", "2026-01-01 00:00", march, "", "2026-03-02 00:01", false, "2026-04-01 00:00"},
		{"done by hand since", "2026-01-01 00:00", "2026-03-05 09:00", "", "2026-03-31 00:00", false, "2026-04-01 00:00"},
		{"done by hand before", "2026-01-01 00:00", "2026-02-28 09:00", "", march, true, "2026-04-01 00:00"},
		{"failed a moment ago", "2026-01-01 00:00", "2026-02-02 00:00", march, "2026-03-02 00:14", false, "2026-04-01 00:00"},
		{"failed a while ago", "2026-01-01 00:00", "2026-02-02 00:00", march, "2026-03-02 00:15", true, "2026-04-01 00:00"},
		{"over the end of a year", "2025-12-15 00:00", "", "", "2026-01-01 00:00", true, "2026-02-02 00:00"},
	} {
		s := State{Since: at(c.since)}
		if c.last != "" {
			s.Last = &Run{Started: at(c.last), Ended: at(c.last)}
			s.Run = s.Last
		}
		if c.fail != "" {
			s.Run = &Run{Started: at(c.fail), Ended: at(c.fail), Error: "it broke"}
		}
		if got := s.due(at(c.now)); got != c.due {
			t.Errorf("%s: due is %t", c.name, got)
		}
		if got := nextDue(at(c.now)); !got.Equal(at(c.next)) {
			t.Errorf("%s: next is %s", c.name, got)
		}
	}
}
