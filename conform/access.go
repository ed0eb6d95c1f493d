package conform

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// accessChecks are about who may call, and in which form.
var accessChecks = []Check{
	{Name: "secret.required", stage: serving, run: secretRequired,
		Rule: "A request without the secret, or with another one, is answered `401` with `unauthorized` or `403` with `forbidden`, and has no effect."},
	{Name: "path.company", stage: serving, run: pathCompany,
		Rule: "A company id that is no decimal number from 1 to 9223372036854775807 is answered `404` with `not_found`."},
	{Name: "path.operation", stage: serving, run: pathOperation,
		Rule: "An operation that isn't listed is answered `404` with `not_found`, and another method than the listed one `405` with `method_not_allowed`."},
	{Name: "body.malformed", stage: serving, run: bodyMalformed,
		Rule: "A body that isn't one JSON object with members of these types is answered `400` with `malformed_json`."},
	{Name: "body.move", stage: serving, run: bodyMove,
		Rule: "A body that lacks `move` or `turn`, or has a value out of its range, is answered `422` with `invalid`."},
	{Name: "body.epoch", stage: serving, run: bodyEpoch,
		Rule: "An `epoch` below 1, a `version` below 0, or none where one is needed is answered `422` with `invalid`."},
	{Name: "body.unknown-members", stage: serving, run: bodyUnknownMembers,
		Rule: "Members that a region doesn't know are ignored."},
	{Name: "refusal.form", stage: serving, run: refusalForm,
		Rule: "The body of a refusal is a JSON object with `code`, which programs may rely on, and `message`, for people."},
}

// operations are all of the contract, each with a body that could be right.
func (s *suite) operations() []operation {
	next := members{"epoch": s.epoch + 1, "version": 0, "region": s.Region}
	return []operation{
		{http.MethodGet, "state", nil}, {http.MethodGet, "rows?table=companies", nil}, {http.MethodGet, "changes", nil}, {http.MethodGet, "checksum", nil},
		{http.MethodPost, "depart", members{"epoch": s.epoch, "version": 0}}, {http.MethodPost, "freeze", members{"epoch": s.epoch}},
		{http.MethodPost, "thaw", next}, {http.MethodPost, "leave", next}, {http.MethodPost, "purge", nil},
		{http.MethodPost, "arrive", next}, {http.MethodPost, "rows", members{"table": "companies", "since": "", "after": "", "last": true, "rows": []any{}, "version": 0}},
		{http.MethodPost, "changes", members{"changes": []any{}}}, {http.MethodPost, "activate", next}, {http.MethodPost, "abandon", nil}, {http.MethodPost, "settle", nil},
	}
}

type operation struct {
	method, verb string
	members      members
}

// unchanged wants the fence and the arrival to stand as before.
func (s *suite) unchanged(ctx context.Context, before state, after string, args ...any) error {
	var now state
	if err := s.ask(ctx, &now, "state"); err != nil {
		return err
	}
	if !reflect.DeepEqual(now.Fence, before.Fence) || !reflect.DeepEqual(now.Arrival, before.Arrival) {
		return &finding{"no effect of " + fmt.Sprintf(after, args...), "fence and arrival that are others than before: " + now.String()}
	}
	return nil
}

func (s state) String() string {
	text := "no fence"
	if s.Fence != nil {
		text = fmt.Sprintf("%+v", *s.Fence)
	}
	if s.Arrival != nil {
		text += fmt.Sprintf(", arriving %+v", *s.Arrival)
	}
	return text
}

func secretRequired(ctx context.Context, s *suite, st state) error {
	for _, header := range []http.Header{{}, {"Authorization": {"Bearer not-" + s.Secret[:len(s.Secret)/2]}}, {"Authorization": {"Basic bm90OnRoZS1zZWNyZXQ="}}, {"Authorization": {"Bearer "}}} {
		for _, op := range s.operations() {
			var body []byte
			if op.method == http.MethodPost {
				body = s.body(op.members)
			}
			a, err := s.send(ctx, op.method, s.path(op.verb), header.Clone(), body)
			if err != nil {
				return err
			}
			if err := a.refused(unauthorized, forbidden); err != nil {
				return err
			}
		}
	}
	return s.unchanged(ctx, st, "requests without the secret")
}

func pathCompany(ctx context.Context, s *suite, _ state) error {
	for _, id := range []string{"0", "-1", "x", s.Company.String() + "x", "9223372036854775808", "1e3", strings.Repeat("9", 200)} {
		for _, op := range []string{"state", "rows?table=companies", "changes", "checksum"} {
			a, err := s.send(ctx, http.MethodGet, fmt.Sprintf("%s/contract/v1/companies/%s/%s", s.URL, id, op), s.bearer(), nil)
			if err != nil {
				return err
			}
			if err := a.refused(notFound); err != nil {
				return err
			}
		}
	}
	return nil
}

func pathOperation(ctx context.Context, s *suite, _ state) error {
	for _, c := range []struct {
		method, verb string
		want         refusal
	}{
		{http.MethodGet, "nothing", notFound}, {http.MethodPost, "nothing", notFound}, {http.MethodGet, "state/more", notFound},
		{http.MethodDelete, "state", noMethod}, {http.MethodPost, "checksum", noMethod}, {http.MethodGet, "freeze", noMethod}, {http.MethodPut, "rows", noMethod},
	} {
		a, err := s.send(ctx, c.method, s.path(c.verb), s.bearer(), nil)
		if err != nil {
			return err
		}
		if err := a.refused(c.want); err != nil {
			return err
		}
	}
	return nil
}

// refuseBodies wants all bodies to be refused, whatever they are sent to, and to have no
// effect; more are those for one operation only.
func (s *suite) refuseBodies(ctx context.Context, st state, bodies []string, more map[string][]string, want refusal) error {
	for _, op := range s.operations() {
		if op.method != http.MethodPost {
			continue
		}
		for _, body := range slices.Concat(bodies, more[op.verb]) {
			a, err := s.send(ctx, op.method, s.path(op.verb), s.bearer(), []byte(body))
			if err != nil {
				return err
			}
			if a.asked += " " + body; len(body) > 60 {
				a.asked = a.asked[:len(a.asked)-len(body)+60]
			}
			if err := a.refused(want); err != nil {
				return err
			}
		}
	}
	return s.unchanged(ctx, st, "bodies that are refused")
}

func bodyMalformed(ctx context.Context, s *suite, st state) error {
	good := string(s.body(members{"epoch": s.epoch}))
	return s.refuseBodies(ctx, st, []string{"", "{", "[]", "7", `"text"`, "null", "not JSON", good + good, good[:len(good)-1],
		`{"move":1,"turn":1}`, `{"move":"m","turn":"1"}`, `{"move":"m","turn":1.5}`, `{"move":"m","turn":1e99}`}, map[string][]string{
		"freeze": {`{"move":"m","turn":1,"epoch":"1"}`}, "activate": {`{"move":"m","turn":1,"epoch":1.5}`}, "leave": {`{"move":"m","turn":1,"epoch":1,"region":7}`},
		"rows": {`{"move":"m","turn":1,"rows":{}}`, `{"move":"m","turn":1,"last":1}`}, "changes": {`{"move":"m","turn":1,"changes":[1]}`},
	}, malformed)
}

func bodyMove(ctx context.Context, s *suite, st state) error {
	return s.refuseBodies(ctx, st, []string{"{}", fmt.Sprintf(`{"turn":%d}`, s.turn), `{"move":"m"}`, `{"move":"m","turn":0}`, `{"move":"m","turn":-1}`,
		fmt.Sprintf(`{"move":"","turn":%d}`, s.turn), fmt.Sprintf(`{"move":%q,"turn":%d}`, strings.Repeat("m", 256), s.turn), fmt.Sprintf(`{"move":"\u0000","turn":%d}`, s.turn)}, nil, invalid)
}

func bodyEpoch(ctx context.Context, s *suite, st state) error {
	for _, verb := range []string{"depart", "freeze", "thaw", "leave", "arrive", "activate"} {
		for _, m := range []members{{}, {"epoch": 0}, {"epoch": -1}, {"epoch": s.epoch, "version": -1}} {
			if verb == "leave" {
				m["region"] = s.Region
			}
			a, err := s.post(ctx, verb, m)
			if err != nil {
				return err
			}
			if err := a.refused(invalid); err != nil {
				return err
			}
		}
	}
	return s.unchanged(ctx, st, "epochs and versions that can't be")
}

func bodyUnknownMembers(ctx context.Context, s *suite, _ state) error {
	return s.do(ctx, "settle", members{"a_member_of_later_times": map[string]any{"deep": []int{1}}}, nil)
}

func refusalForm(ctx context.Context, s *suite, _ state) error {
	for _, path := range []string{"nothing", "rows?table=nothing"} {
		a, err := s.send(ctx, http.MethodGet, s.path(path), s.bearer(), nil)
		if err != nil {
			return err
		}
		var said struct {
			Message string `json:"message"`
		}
		kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
		if _ = jsonInto(a.body, &said); a.code() == "" || said.Message == "" || !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
			return found(a, "a refusal as application/json with a code and a message")
		}
	}
	return nil
}
