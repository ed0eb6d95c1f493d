package intercom

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"mpr/problem"
)

const (
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 16 << 20
	// callTimeout bounds each call. It is longer than the wait for the index.
	callTimeout = 30 * time.Second
)

// Caller sends JSON and reads JSON. A refusal that tells its code comes back as the same
// *problem.Problem.
type Caller struct {
	http   *http.Client
	header http.Header
}

// NewCaller makes a caller that shows the secret; where that is empty, nothing. It goes
// straight to where it is sent, whatever proxy the environment names, unless a transport is
// given.
func NewCaller(transport http.RoundTripper, secret string) *Caller {
	if transport == nil {
		transport = NewTransport(nil, nil)
	}
	header := http.Header{"Accept": {"application/json"}}
	if secret != "" {
		header.Set("Authorization", "Bearer "+secret)
	}
	return &Caller{
		header: header,
		http: &http.Client{
			Transport: transport,
			Timeout:   callTimeout,
			// A redirect would carry the secret to where nobody meant it to go.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Dial makes a connection.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// NewTransport makes connections for callers. Where they aren't nil, dial makes those of http and dialTLS those of https.
func NewTransport(dial, dialTLS Dial) http.RoundTripper {
	// Who takes a body of any size says soon after its end what became of it.
	return &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 2 * time.Minute, DialContext: dial, DialTLSContext: dialTLS}
}

// With returns a caller that also sends this header.
func (c *Caller) With(name, value string) *Caller {
	more := *c
	more.header = c.header.Clone()
	more.header.Set(name, value)
	return &more
}

// Close ends idle connections.
func (c *Caller) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Call sends in, where it isn't nil, and decodes the answer into out, where it isn't nil. It
// returns the status of an answer in the two hundreds.
func (c *Caller) Call(ctx context.Context, method, url string, in, out any) (int, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("encode a request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, fmt.Errorf("make a request: %w", err)
	}
	req.Header = c.header.Clone()
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err // names method and URL already
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("more than %d bytes", maxAnswer)
	}
	if err != nil {
		return 0, fmt.Errorf("%s %s: read the answer: %w", method, url, err)
	}
	if resp.StatusCode/100 != 2 {
		return 0, refusal(method, url, resp.StatusCode, data)
	}
	if out == nil {
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return 0, fmt.Errorf("%s %s: decode the answer: %w", method, url, err)
	}
	return resp.StatusCode, nil
}

// Open sends a body of any size, where it isn't nil, and answers the body of an answer in the
// two hundreds, which the caller closes. Neither has a time limit over all: a large one takes
// its time, and whoever serves it gives up where nothing moves any more.
func (c *Caller) Open(ctx context.Context, method, url string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header = c.header.Clone()
	req.Header.Del("Accept") // it needn't be JSON
	patient := *c.http
	patient.Timeout = 0
	resp, err := patient.Do(req)
	if err != nil {
		return nil, err // names method and URL already
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the answer: %w", method, url, err)
	}
	return nil, refusal(method, url, resp.StatusCode, data)
}

// Download copies an answer as it is, however long it takes.
func (c *Caller) Download(ctx context.Context, url string, to io.Writer) error {
	body, err := c.Open(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(to, body); err != nil {
		return fmt.Errorf("GET %s: read the answer: %w", url, err)
	}
	return nil
}

// Pass sends on what one answers to another, as it comes, and decodes what that one says into
// out.
func Pass(ctx context.Context, source *Caller, from string, destination *Caller, to string, out any) error {
	body, err := source.Open(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	said, err := destination.Open(ctx, http.MethodPut, to, body)
	if err != nil {
		return err
	}
	defer said.Close()
	if err := json.NewDecoder(io.LimitReader(said, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("PUT %s: decode the answer: %w", to, err)
	}
	return nil
}

// refusal reads an error answer in the form of [problem.Write] or [problem.WriteOAuth].
func refusal(method, url string, status int, data []byte) error {
	var answer struct {
		Code        problem.Code        `json:"code"`
		Message     string              `json:"message"`
		Errors      map[string][]string `json:"errors"`
		OAuth       problem.Code        `json:"error"`
		Description string              `json:"error_description"`
		RequestID   string              `json:"request_id"`
	}
	err := json.Unmarshal(data, &answer)
	switch {
	case err == nil && answer.Code != "":
		return &problem.Problem{Code: answer.Code, Message: answer.Message, Fields: answer.Errors, RequestID: answer.RequestID}
	case err == nil && answer.OAuth != "":
		return &problem.Problem{Code: answer.OAuth, Message: answer.Description, RequestID: answer.RequestID}
	}
	return fmt.Errorf("%s %s: answered %d without a reason", method, url, status)
}
