package region

import (
	"log/slog"
	"net/http"
	"time"
)

// beginWithin is how long an answer takes to begin at the most: movers give up on one that
// doesn't, and to sum up ten million rows takes minutes.
const beginWithin = 15 * time.Second

// slowly answers with what op says. Where that takes longer than every, the answer begins with
// spaces, one each time, which JSON allows before a value. One that fails after that breaks off.
func (s *Service) slowly(w http.ResponseWriter, r *http.Request, every time.Duration, op func() (any, error)) {
	stop := keepWaiting(w, every)
	defer stop() // if op panics
	body, err := op()
	begun := stop()
	switch {
	case err == nil:
		if !begun {
			answerJSON(w, http.StatusOK)
		}
		writeBody(w, body)
	case !begun:
		s.refuse(w, r, err)
	default:
		slog.WarnContext(r.Context(), "an answer broke off", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler) // the status is sent: an answer that breaks off says it as well
	}
}

// keepWaiting sends a space now and then, until stop is called, which says whether any was sent.
func keepWaiting(w http.ResponseWriter, every time.Duration) (stop func() (begun bool)) {
	ended, quit, begun := make(chan struct{}), make(chan struct{}), false
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			if !begun {
				answerJSON(w, http.StatusOK)
				begun = true
			}
			// Whoever has gone isn't waited for: the request's context ends.
			_, _ = w.Write([]byte{' '})
			_ = http.NewResponseController(w).Flush()
		}
	}()
	stopped := false
	return func() bool {
		if !stopped {
			stopped = true
			close(quit)
			<-ended
		}
		return begun
	}
}
