package region_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"mpr/problem"
	"mpr/region"
)

// An answer that takes long begins in time, and is JSON all the same; one that fails after that
// isn't taken for whole.
func TestAnswersThatTakeLong(t *testing.T) {
	for name, fails := range map[string]error{"in the end": nil, "never": errors.New("the disk is gone")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			seen := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				region.Slowly(w.service, rw, r, time.Millisecond, func() (any, error) {
					<-seen // it takes until the client has seen the beginning
					return map[string]int{"version": 17}, fails
				})
			}))
			defer server.Close()
			resp, err := http.Get(server.URL) //nolint:noctx // the test ends it
			check(t, err)
			defer resp.Body.Close()
			first := make([]byte, 1)
			_, err = io.ReadFull(resp.Body, first)
			check(t, err)
			close(seen)
			var said map[string]int
			err = json.NewDecoder(resp.Body).Decode(&said)
			if first[0] != ' ' || (err == nil) != (fails == nil) || fails == nil && said["version"] != 17 {
				t.Errorf("begins with %q, and then says %v, %v", first, said, err)
			}
		})
	}
}

// Most answers don't take long, and are refusals with their status where they fail.
func TestAnswersInTime(t *testing.T) {
	w := newWorld(t)
	got := httptest.NewRecorder()
	region.Slowly(w.service, got, httptest.NewRequest(http.MethodGet, "/", http.NoBody), time.Hour, func() (any, error) {
		return nil, problem.New(problem.Conflict, "no")
	})
	if got.Code != http.StatusConflict {
		t.Errorf("answered %d %s", got.Code, got.Body)
	}
}
