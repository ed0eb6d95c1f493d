package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"mpr/problem"
)

// GenerationHeader names, on calls of internal listeners, the generation that a call is
// for; without it a call is for the one that serves.
const GenerationHeader = "Mpr-Generation"

// maxAnswer is the longest answer that is read at once, in bytes.
const maxAnswer = 1 << 20

// peers calls internal listeners.
type peers struct {
	http   *http.Client
	secret string
}

func newPeers(secret string) *peers {
	return &peers{secret: secret, http: &http.Client{
		// No time limit over all: a large company takes its time. Both ends of a snapshot give
		// up where nothing moves any more.
		Transport: &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 2 * time.Minute},
		// A redirect would carry the secret to where nobody meant it to go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// open sends a request and answers the body of an answer in the two hundreds. Generation
// 0 is the one that serves.
func (p *peers) open(ctx context.Context, method, url string, generation int, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+p.secret)
	if generation > 0 {
		req.Header.Set(GenerationHeader, strconv.Itoa(generation))
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, err // names method and URL already
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var refusal struct {
		Code    problem.Code `json:"code"`
		Message string       `json:"message"`
	}
	if err := errors.Join(err, resp.Body.Close(), json.Unmarshal(data, &refusal)); err != nil || refusal.Code == "" {
		return nil, fmt.Errorf("%s %s: answered %d without a reason", method, url, resp.StatusCode)
	}
	return nil, fmt.Errorf("%s %s: %w", method, url, problem.New(refusal.Code, "%s", refusal.Message))
}

// call is open for a short answer, which it decodes into out.
func (p *peers) call(ctx context.Context, method, url string, generation int, body io.Reader, out any) (status int, err error) {
	resp, err := p.open(ctx, method, url, generation, body)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return 0, fmt.Errorf("%s %s: decode the answer: %w", method, url, err)
	}
	return resp.StatusCode, nil
}

// pass sends what one listener answers to another one, as it comes.
func (p *peers) pass(ctx context.Context, from, to string, generation int, out any) error {
	resp, err := p.open(ctx, http.MethodGet, from, 0, nil)
	if err != nil {
		return err
	}
	_, err = p.call(ctx, http.MethodPut, to, generation, resp.Body, out)
	return errors.Join(err, resp.Body.Close())
}
