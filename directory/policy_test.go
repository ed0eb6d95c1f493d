package directory

import "testing"

// Rehearsals change the record, and not what whoever looked at an earlier one has seen of the dates; a
// revision that isn't of this bucket counts for nothing.
func TestWhatARevisionHasSeen(t *testing.T) {
	at := func(n uint64) *uint64 { return &n }
	for _, c := range []struct {
		record PolicyRecord
		seen   []uint64
		not    []uint64
	}{
		{PolicyRecord{}, []uint64{0}, []uint64{1}},
		{PolicyRecord{Revision: 7}, []uint64{7}, []uint64{0, 6, 8}},
		{PolicyRecord{Revision: 7, PlannedIn: at(5)}, []uint64{5, 6, 7}, []uint64{0, 4, 8}},
		{PolicyRecord{Revision: 7, PlannedIn: at(0)}, []uint64{0, 1, 7}, []uint64{8}}, // what is configured
		{PolicyRecord{Revision: 7, PlannedIn: at(900)}, []uint64{7}, []uint64{0, 900}},
	} {
		for _, revision := range c.seen {
			if !c.record.Seen(revision) {
				t.Errorf("%+v: whoever looked at %d has seen it", c.record, revision)
			}
		}
		for _, revision := range c.not {
			if c.record.Seen(revision) {
				t.Errorf("%+v: whoever looked at %d hasn't seen it", c.record, revision)
			}
		}
	}
}
