package gateway

import (
	"net/http"
	"strconv"
	"time"

	"mpr/problem"
)

// Headers that tell clients of the window that is nearest to its limit.
const (
	rateLimitHeader     = "X-Rate-Limit-Limit"
	rateRemainingHeader = "X-Rate-Limit-Remaining"
	rateResetHeader     = "X-Rate-Limit-Reset"
)

func isRateHeader(name string) bool {
	return name == rateLimitHeader || name == rateRemainingHeader || name == rateResetHeader
}

// rate puts on an answer what the app has left, in place of what an upstream says.
func (c *call) rate(h http.Header) {
	v := &c.verdict
	if !v.Limited {
		return
	}
	// One text for all three, which lie in the call.
	var digits [3 * 20]byte
	b := strconv.AppendInt(digits[:0], v.Limit, 10)
	first := len(b)
	b = strconv.AppendInt(b, v.Remaining, 10)
	second := len(b)
	text := string(strconv.AppendInt(b, v.Reset, 10))
	c.rates = [3]string{text[:first], text[first:second], text[second:]}
	for i, name := range [...]string{rateLimitHeader, rateRemainingHeader, rateResetHeader} {
		h[name] = c.rates[i : i+1 : i+1]
	}
}

// tooMany refuses a call that is more than its app may make.
func (c *call) tooMany() *problem.Problem {
	v := &c.verdict
	span := "an hour"
	if v.Span < time.Hour {
		span = strconv.Itoa(int(v.Span.Seconds())) + " seconds"
	}
	seconds := int64((v.RetryAfter + time.Second - 1) / time.Second)
	return problem.New(problem.RateLimited, "The app has made the %d calls that it may make in %s. Nothing was changed. Try again in %d s, "+
		"and let calls wait while %s is 0.", v.Limit, span, seconds, rateRemainingHeader).After(v.RetryAfter)
}
