package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	"mpr/problem"
)

// Sizes of bodies of the admin API and of our internal listeners, in bytes.
const (
	maxRequest = 1 << 20
	maxAnswer  = 16 << 20
)

// caller sends JSON with a bearer secret and reads JSON. A refusal that tells its code
// comes back as the same *problem.Problem.
type caller struct {
	http   *http.Client
	secret string
}

// callTimeout bounds each call. It is longer than the wait for the index.
const callTimeout = 30 * time.Second

func newCaller(transport http.RoundTripper, secret string) *caller {
	return &caller{secret: secret, http: &http.Client{
		Transport: transport,
		Timeout:   callTimeout,
		// A redirect would carry the secret to where nobody meant it to go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// call sends in, where it isn't nil, and decodes the answer into out, where it isn't
// nil. It returns the status of an answer in the two hundreds.
func (c *caller) call(ctx context.Context, method, url string, in, out any) (int, error) {
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
	req.Header.Set("Authorization", "Bearer "+c.secret)
	req.Header.Set("Accept", "application/json")
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

// download copies an answer as it is, however long it takes.
func (c *caller) download(ctx context.Context, url string, to io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.secret)
	patient := *c.http
	patient.Timeout = 0
	resp, err := patient.Do(req)
	if err != nil {
		return err // names method and URL already
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("GET %s: read the answer: %w", url, err)
		}
		return refusal(http.MethodGet, url, resp.StatusCode, data)
	}
	if _, err := io.Copy(to, resp.Body); err != nil {
		return fmt.Errorf("GET %s: read the answer: %w", url, err)
	}
	return nil
}

// refusal reads an error answer in the form of [problem.Write].
func refusal(method, url string, status int, data []byte) error {
	var answer struct {
		Code    problem.Code        `json:"code"`
		Message string              `json:"message"`
		Errors  map[string][]string `json:"errors"`
	}
	if err := json.Unmarshal(data, &answer); err != nil || answer.Code == "" {
		return fmt.Errorf("%s %s: answered %d without a reason", method, url, status)
	}
	return &problem.Problem{Code: answer.Code, Message: answer.Message, Fields: answer.Errors}
}

// ours are the refusals of a process behind us that are about the request of the
// administrator, and not about us or the process.
var ours = []problem.Code{
	problem.NotFound, problem.Invalid, problem.Conflict, problem.BadRequest, problem.WrongRegion, problem.EpochRefused,
}

// relay passes on a refusal that is about the administrator's request. Everything else
// becomes a problem of that code, which says who is to blame and keeps the cause for
// the log.
func relay(err error, code problem.Code, who string) error {
	if err == nil {
		return nil
	}
	var p *problem.Problem
	if errors.As(err, &p) && slices.Contains(ours, p.Code) {
		return err
	}
	why := "can't be reached or fails; see its log and that of the control role, and try again"
	if errors.Is(err, problem.New(problem.Unauthorized, "")) {
		why = "refuses the control role: both need the same secret file"
	}
	return problem.New(code, "%s %s.", who, why).Because(err)
}

// identity calls the login service of the environment.
func (s *Service) identity(ctx context.Context, e *Environment, method, path string, in, out any) error {
	_, err := s.internal.call(ctx, method, e.IdentityURL+path, in, out)
	return relay(err, problem.IdentityUnavailable, "The login service")
}

// readJSON decodes the request's body strictly into v.
func readJSON(r *http.Request, v any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return problem.New(problem.UnsupportedMediaType, "Send JSON, with Content-Type: application/json.")
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		return problem.New(problem.BadRequest, "The request's body broke off.").Because(err)
	}
	if len(data) > maxRequest {
		return problem.New(problem.BodyTooLarge, "The request's body has more than %d bytes.", maxRequest)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields() // a misspelt field must not look like one that was left out
	if err := dec.Decode(v); err != nil {
		return problem.New(problem.MalformedJSON, "The request's body isn't what is expected here: %v.", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return problem.New(problem.MalformedJSON, "The request's body goes on after its JSON value.")
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the administrator has gone away
}

// invalid is the refusal of one field.
func invalid(field, why string) *problem.Problem {
	p := problem.New(problem.Invalid, "The field %s can't be used: %s.", field, why)
	p.Fields = map[string][]string{field: {why}}
	return p
}
