package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mpr/move"
	"mpr/operator"
	"mpr/problem"
	"mpr/store"
	"mpr/test/engine"
)

const adminToken = "an-admin-token-for-tests"

// identity is a login service with users that tests change.
type identity map[int64]operator.User

func (i identity) User(_ context.Context, id int64) (operator.User, error) {
	u, ok := i[id]
	if !ok {
		return u, problem.New(problem.NotFound, "There is no user with this id.")
	}
	return u, nil
}

// newOperators keeps operators in a database of the test.
func newOperators(t *testing.T) *operator.Service {
	t.Helper()
	return operatorsOf(t)
}

func operatorsOf(t testing.TB) *operator.Service {
	t.Helper()
	db, err := store.Open(context.Background(), engine.Store(t), operator.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	o := operator.New(operator.Options{
		DB: db, Environment: "production", Identity: identity{}, Lifetime: time.Hour, Idle: time.Hour, Kept: 24 * time.Hour, Now: time.Now,
	})
	t.Cleanup(func() {
		if err := errors.Join(o.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return o
}

// serve starts an admin API whose environment has nothing behind it.
func serve(t *testing.T) string {
	t.Helper()
	return serveWith(t, newOperators(t), adminToken)
}

const ownURL = "http://127.0.0.1:4090"

func serveWith(t *testing.T, o *operator.Service, token string) string {
	t.Helper()
	s, err := New(t.Context(), Options{
		Environments: []*Environment{{Name: "production", LoginURL: "http://login.test"}, {Name: "monthly sandbox"}},
		Secret:       "internal-secret", AdminToken: token, SignIn: SignIn{Operators: o, URL: ownURL, LoginURL: "http://127.0.0.1:4000"}, Moves: &move.Queue{Now: time.Now},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(problem.Handler(s.Handler()))
	t.Cleanup(func() {
		server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.URL
}

type request struct {
	method, path, body  string
	token, mediaType    string
	status              int
	code                problem.Code
	message, wantHeader string
}

func TestRefusals(t *testing.T) {
	base := serve(t)
	const in = prefix + "/production"
	for name, r := range map[string]request{
		"no token":           {token: "-", path: prefix, status: 401, code: problem.Unauthorized, wantHeader: "Www-Authenticate"},
		"wrong token":        {token: "Bearer x", path: prefix, status: 401, code: problem.Unauthorized},
		"longer token":       {token: "Bearer " + adminToken + "x", path: prefix, status: 401, code: problem.Unauthorized},
		"wrong scheme":       {token: "Basic " + adminToken, path: prefix, status: 401, code: problem.Unauthorized},
		"no token, no route": {token: "-", path: "/nowhere", status: 401, code: problem.Unauthorized},
		"no route":           {path: "/nowhere", status: 404, code: problem.NotFound, message: prefix},
		"wrong method":       {method: "DELETE", path: in + "/companies", status: 405, code: problem.MethodNotAllowed, wantHeader: "Allow"},
		"no environment":     {path: prefix + "/nowhere/companies", status: 404, code: problem.NotFound, message: "production, monthly sandbox"},
		"company id":         {path: in + "/companies/0x10", status: 404, code: problem.NotFound},
		"after":              {path: in + "/companies?after=-1", status: 400, code: problem.BadRequest, message: "after"},
		"per_page":           {path: in + "/companies?per_page=100000", status: 400, code: problem.BadRequest, message: "1000"},
		"app in path":        {path: in + "/apps/%2e%2e", status: 404, code: problem.NotFound, message: "client id"},
		"no media type":      {method: "POST", path: in + "/users", body: `{}`, mediaType: "-", status: 415, code: problem.UnsupportedMediaType},
		"form":               {method: "POST", path: in + "/users", body: `login=a`, mediaType: "application/x-www-form-urlencoded", status: 415, code: problem.UnsupportedMediaType},
		"malformed":          {method: "POST", path: in + "/users", body: `{"login":`, status: 400, code: problem.MalformedJSON},
		"empty":              {method: "POST", path: in + "/users", body: ``, status: 400, code: problem.MalformedJSON},
		"two values":         {method: "POST", path: in + "/users", body: `{} {}`, status: 400, code: problem.MalformedJSON, message: "goes on"},
		"misspelt field":     {method: "POST", path: in + "/users", body: `{"logn":"a"}`, status: 400, code: problem.MalformedJSON, message: "logn"},
		"wrong type":         {method: "POST", path: in + "/users", body: `{"login":7}`, status: 400, code: problem.MalformedJSON, message: "login"},
		"large":              {method: "POST", path: in + "/users", body: `{"login":"` + strings.Repeat("x", maxRequest) + `"}`, status: 413, code: problem.BodyTooLarge},
		"day":                {method: "POST", path: in + "/companies", body: `{"name":"x","onboarded":"1/1/2019"}`, status: 422, code: problem.Invalid, message: "2019-01-01"},
		"region code":        {method: "POST", path: in + "/regions", body: `{"code":"eu","number":1,"upstreams":["http://h"]}`, status: 422, code: problem.Invalid, message: "region code"},
		"region number":      {method: "POST", path: in + "/regions", body: `{"code":"AP01","number":256,"upstreams":["http://h"]}`, status: 422, code: problem.Invalid, message: "255"},
		"no upstreams":       {method: "POST", path: in + "/regions", body: `{"code":"AP01","number":1}`, status: 422, code: problem.Invalid, message: "upstreams"},
		"upstream with path": {method: "POST", path: in + "/regions", body: `{"code":"AP01","number":1,"upstreams":["http://h/x"]}`, status: 422, code: problem.Invalid},
		"app kind":           {method: "POST", path: in + "/apps", body: `{"kind":"traditional"}`, status: 422, code: problem.Invalid, message: "service-accounts"},
		"account kind":       {method: "POST", path: in + "/service-accounts", body: `{"kind":"web"}`, status: 422, code: problem.Invalid},
		"account company":    {method: "POST", path: in + "/service-accounts", body: `{"kind":"traditional"}`, status: 422, code: problem.Invalid},
		"managed company":    {method: "POST", path: in + "/service-accounts", body: `{"kind":"developer_managed","company":1}`, status: 422, code: problem.Invalid},
		"nothing":            {method: "POST", path: in + "/moves", status: 400, code: problem.MalformedJSON, message: "it is empty"},
		"a list":             {method: "POST", path: in + "/moves", body: `[]`, status: 400, code: problem.MalformedJSON, message: "it must be an object, and not a value of the kind array"},
		"id as text":         {method: "POST", path: in + "/moves", body: `{"company":"1"}`, status: 400, code: problem.MalformedJSON, message: "the field company can't have a value of the kind string"},
		"no time":            {method: "POST", path: in + "/moves", body: `{"not_before":"tomorrow"}`, status: 400, code: problem.MalformedJSON, message: "is no time such as"},
		"move of nobody":     {method: "POST", path: in + "/moves", body: `{"to":"EU01"}`, status: 422, code: problem.Invalid, message: "company"},
		"negative rate":      {method: "POST", path: in + "/moves", body: `{"company":1,"to":"EU01","rate":-1}`, status: 422, code: problem.Invalid, message: "rate"},
		"window backwards":   {method: "POST", path: in + "/moves", body: `{"company":1,"to":"EU01","not_before":"2099-01-02T00:00:00Z","not_after":"2099-01-01T00:00:00Z"}`, status: 422, code: problem.Invalid, message: "after not_before"},
		"window in the past": {method: "POST", path: in + "/moves", body: `{"company":1,"to":"EU01","not_after":"2020-01-01T01:00:00+01:00"}`, status: 422, code: problem.Invalid, message: "ended at 2020-01-01T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) { r.expect(t, base) })
	}
}

func (r request) expect(t *testing.T, base string) {
	t.Helper()
	if r.method == "" {
		r.method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, base+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	switch r.token {
	case "":
		req.Header.Set("Authorization", "Bearer "+adminToken)
	case "-":
	default:
		req.Header.Set("Authorization", r.token)
	}
	switch r.mediaType {
	case "":
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	case "-":
	default:
		req.Header.Set("Content-Type", r.mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Code      problem.Code `json:"code"`
		Message   string       `json:"message"`
		RequestID string       `json:"request_id"`
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&answer); err != nil {
		t.Fatalf("%s: %s (%v)", resp.Status, body, err)
	}
	if resp.StatusCode != r.status || answer.Code != r.code || !strings.Contains(answer.Message, r.message) || answer.RequestID == "" {
		t.Errorf("%s: %s; want %d %s with %q", resp.Status, body, r.status, r.code, r.message)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be cached")
	}
	if r.wantHeader != "" && resp.Header.Get(r.wantHeader) == "" {
		t.Errorf("the answer lacks %s", r.wantHeader)
	}
}

func TestClientTellsWhoIsToBlame(t *testing.T) {
	base := serve(t)
	if _, err := NewClient(base, "wrong", "production").Keys(t.Context()); err == nil || !strings.Contains(err.Error(), "refuses the token") {
		t.Errorf("wrong token: %v", err)
	}
	if _, err := NewClient("http://127.0.0.1:1", adminToken, "production").Keys(t.Context()); err == nil || !strings.Contains(err.Error(), "can't be reached") {
		t.Errorf("nobody there: %v", err)
	}
	_, err := NewClient(base, adminToken, "nowhere").Keys(t.Context())
	if p := problem.From(err); p.Code != problem.NotFound || !strings.Contains(p.Message, "production") {
		t.Errorf("wrong environment: %v", err)
	}
	if _, err := NewClient(base, adminToken, "monthly sandbox").Keys(t.Context()); problem.From(err).Code != problem.IdentityUnavailable {
		t.Errorf("no login service: %v", err)
	}
	environments, err := NewClient(base, adminToken, "production").Environments(t.Context())
	if err != nil || len(environments) != 2 || environments[0].LoginURL != "http://login.test" {
		t.Errorf("environments: %v, %v", environments, err)
	}
}

func TestServiceNeedsItsSecrets(t *testing.T) {
	for _, o := range []Options{{Secret: "x"}, {AdminToken: "x"}, {SignIn: SignIn{Operators: newOperators(t)}}} {
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("New(%+v) worked", o)
		}
	}
}
