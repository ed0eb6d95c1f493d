package sandbox

import "time"

// FirstWorkingDay is the beginning, in UTC, of the first day of a month that is neither a
// Saturday nor a Sunday.
func FirstWorkingDay(year int, month time.Month) time.Time {
	day := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	for day.Weekday() == time.Saturday || day.Weekday() == time.Sunday {
		day = day.AddDate(0, 0, 1)
	}
	return day
}

// lastDue is the latest time up to now at which a refresh was due.
func lastDue(now time.Time) time.Time {
	year, month, _ := now.UTC().Date()
	due := FirstWorkingDay(year, month)
	if due.After(now) {
		due = FirstWorkingDay(year, month-1)
	}
	return due
}

// nextDue is the first time after now at which a refresh is due.
func nextDue(now time.Time) time.Time {
	year, month, _ := now.UTC().Date()
	due := FirstWorkingDay(year, month)
	if !due.After(now) {
		due = FirstWorkingDay(year, month+1)
	}
	return due
}

// retryAfter is how long the schedule waits after a refresh that failed.
const retryAfter = 15 * time.Minute

// due says whether the schedule wants a refresh: none that was begun since the first
// working day of the month has come to its end. An environment waits for the first such
// day of its own life.
func (s *State) due(now time.Time) bool {
	since := s.Since
	if s.Last != nil && s.Last.Started.After(since) {
		since = s.Last.Started
	}
	if s.Run != nil && s.Run.Error != "" && now.Before(s.Run.Ended.Add(retryAfter)) {
		return false
	}
	return since.Before(lastDue(now))
}
