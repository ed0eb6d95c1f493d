package problem

import (
	"errors"
	"fmt"
	"testing"
)

// What fails in the same way again and again is told once, and once more after it went well.
func TestTold(t *testing.T) {
	away := New(DirectoryUnavailable, "Try again.")
	var told Told
	for i, step := range []struct {
		err  error
		anew bool
	}{
		{nil, false},
		{away.Because(errors.New("a reason")), true},
		{fmt.Errorf("open: %w", away.Because(errors.New("another reason"))), false},
		{errors.New("the disk is full"), true},
		{errors.New("the disk is full"), false},
		{errors.New("the disk is gone"), true},
		{nil, false},
		{errors.New("the disk is gone"), true},
	} {
		if got := told.Anew(step.err); got != step.anew {
			t.Errorf("step %d, %v: %v", i, step.err, got)
		}
	}
}
