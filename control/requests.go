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
	"strings"
	"time"

	"mpr/operator"
	"mpr/problem"
)

// maxRequest bounds the body of a request to the admin API, in bytes.
const maxRequest = 1 << 20

// ours are the refusals of a process behind us that are about the request of the
// administrator, and not about us or the process.
var ours = []problem.Code{
	problem.NotFound, problem.Invalid, problem.Conflict, problem.BadRequest, problem.WrongRegion, problem.EpochRefused, problem.InsufficientStorage, problem.RegionDraining,
	problem.BodyTooLarge,
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
	_, err := s.internal.Call(ctx, method, e.IdentityURL+path, in, out)
	return relay(err, problem.IdentityUnavailable, "The login service")
}

// claim claims the idempotency key of a request, where it has one, for what the request asks for. It
// is to be dropped again where nothing was made.
func (s *Service) claim(ctx context.Context, e *Environment, kind, key string, content any) (*operator.Claim, error) {
	if key == "" {
		return nil, nil //nolint:nilnil // a nil claim is that of a request without a key
	}
	return s.operators.Claim(ctx, e.Name, kind, key, content)
}

// nothingMade gives a key up after a refusal. Where the other side has failed something may have been
// made: then the key goes on standing for that content.
func nothingMade(ctx context.Context, claim *operator.Claim, err error) error {
	if problem.From(err).Code.Status() >= http.StatusInternalServerError {
		return err
	}
	return errors.Join(err, claim.Drop(context.WithoutCancel(ctx)))
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
		return problem.New(problem.MalformedJSON, "The request's body isn't what is expected here: %s.", misread(err)).Because(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return problem.New(problem.MalformedJSON, "The request's body goes on after its JSON value.")
	}
	return nil
}

// misread says what is wrong with a body in words of JSON, not of Go.
func misread(err error) string {
	var kind *json.UnmarshalTypeError
	var when *time.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return "it is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends before its JSON value does"
	case errors.As(err, &kind) && kind.Field == "":
		return "it must be an object, and not a value of the kind " + kind.Value
	case errors.As(err, &kind):
		return fmt.Sprintf("the field %s can't have a value of the kind %s", kind.Field[strings.LastIndexByte(kind.Field, '.')+1:], kind.Value)
	case errors.As(err, &when):
		return fmt.Sprintf("%s is no time such as 2019-04-01T14:00:00Z", when.Value)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
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
