package await

import (
	"testing"
	"time"
)

const (
	limit = 20 * time.Second
	again = 2 * time.Millisecond
)

// That waits until ok, which is called by the test's own goroutine, and ends a test that waits in vain
// for what it says.
func That(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(again)
	defer tick.Stop()
	late := time.After(limit)
	for !ok() {
		select {
		case <-late:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
