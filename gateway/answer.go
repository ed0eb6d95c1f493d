package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"mpr/gateway/http1"
	"mpr/problem"
)

// copyBuffer is the size of the buffers that answers pass through.
const copyBuffer = 32 << 10

// answer passes an upstream's answer on. An error says that it could not be completed.
func (c *call) answer(resp *http1.Response) error {
	c.startAnswer()
	c.status = resp.StatusCode
	if resp.Header.Get(refusalHeader) == string(problem.CompanyMismatch) {
		c.refusal = problem.CompanyMismatch
	}
	h := c.w.Header()
	copyAnswerHeader(h, resp.Header)
	c.deprecate(h)
	c.rate(h)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess one
	}
	announced := c.announceTrailers(resp)
	c.w.WriteHeader(resp.StatusCode)
	if err := c.copyBody(resp); err != nil {
		return err
	}
	for name, values := range resp.Trailer {
		switch {
		case announced[name]:
			h[name] = values
		case mayTrail(name):
			h[http.TrailerPrefix+name] = values
		}
	}
	return nil
}

// announceTrailers tells the client which trailers will follow (RFC 9110 section 6.6.2).
func (c *call) announceTrailers(resp *http1.Response) map[string]bool {
	if len(resp.Trailer) == 0 {
		return nil
	}
	names := make(map[string]bool, len(resp.Trailer))
	for name := range resp.Trailer {
		if mayTrail(name) {
			names[name] = true
			c.w.Header().Add("Trailer", name)
		}
	}
	return names
}

func mayTrail(name string) bool {
	return !hopByHop(name) && !ourAnswerHeader(name) && !isRateHeader(name)
}

// copyBody streams the answer's body to the client. What has arrived is sent on before
// more is waited for.
func (c *call) copyBody(resp *http1.Response) error {
	if c.r.Method == http.MethodHead {
		return nil
	}
	left := resp.Length // below 0: unknown
	if left < 0 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	pooled, _ := c.service.buffers.Get().(*[]byte)
	defer c.service.buffers.Put(pooled)
	buf := *pooled
	for {
		n, err := resp.Read(buf)
		if n > 0 {
			c.deadlines.extendWrite()
			if _, err := c.w.Write(buf[:n]); err != nil {
				return fmt.Errorf("%w: %w", errClientGone, err)
			}
			left -= int64(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the answer broke off: %w", err)
		}
		if left != 0 { // the last bytes are flushed with the end of the answer
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
}

func (c *call) flush() error {
	if err := c.deadlines.control.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errClientGone, err)
	}
	return nil
}
