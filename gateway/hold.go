package gateway

import "time"

// movingHeader says, on a region's 421, that the company is just changing over: it is worth
// while to ask again in a moment.
const movingHeader = "Mpr-Moving"

// patience is that of one call for a company that changes over to another region. Its zero
// value hasn't waited yet.
type patience struct {
	waits  bool // it counts among the calls that wait
	until  time.Time
	before time.Duration // how long it has waited without knowing for what
}

// The first and the longest wait of a gateway that hasn't heard when the company may be called
// again.
const (
	firstWait   = 5 * time.Millisecond
	longestWait = 100 * time.Millisecond
)

// wait waits until over is closed or, where that is nil, for a moment. It answers false where
// the call must not wait any longer, or too many others wait.
func (p *patience) wait(c *call, over <-chan struct{}) bool {
	s := c.service
	if !p.waits {
		if s.held.Add(1) > int64(s.limits.HoldCalls) {
			s.held.Add(-1)
			return false
		}
		p.waits, p.until = true, time.Now().Add(s.limits.HoldTimeout)
	}
	left := time.Until(p.until)
	if left <= 0 {
		return false
	}
	if over == nil {
		p.before = min(max(2*p.before, firstWait), longestWait)
		left = min(left, p.before)
	}
	limit := time.NewTimer(left)
	defer limit.Stop()
	select {
	case <-over:
		return true
	case <-limit.C:
		return over == nil
	case <-c.ctx.Done():
		return false
	}
}

// end makes room for other calls that wait.
func (p *patience) end(s *Service) {
	if p.waits {
		s.held.Add(-1)
	}
}
