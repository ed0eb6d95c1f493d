package region

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"mpr/company"
	"mpr/observe"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// call is an API call whose caller may make it.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	query   url.Values
	claims  *token.Claims
	company company.ID
	epoch   company.Epoch
	// limitedTo is the app of a developer-managed service account which sees those
	// projects only that the company's administrator permits; 0 for callers who see all.
	limitedTo int64
	// body is the request's object, read and checked; empty where it has none.
	body object
}

// operation is one thing that can be done with a resource. It answers a status and what
// becomes the JSON body.
type operation func(context.Context, *call) (status int, body any, err error)

// answer runs the checks that all calls have in common, and the operation.
func (s *Service) answer(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.admit(w, r)
		if err == nil {
			err = s.checkNamedCompanies(c)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.run(w, r, s.still(op), c)
	})
}

// still looks at the fence once more after a read: what was read before the company moved
// away mustn't be answered after somebody has written to it elsewhere. Writes look at it in
// their transaction.
func (s *Service) still(op operation) operation {
	return func(ctx context.Context, c *call) (int, any, error) {
		status, body, err := op(ctx, c)
		if err != nil || c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
			return status, body, err
		}
		f, err := readFence(ctx, s.DB.Read(), c.company)
		if err == nil {
			err = f.admits(s.Code, c.epoch)
		}
		return status, body, err
	}
}

// answerJSON begins an answer.
func answerJSON(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
}

// rendered is a body that is JSON already.
type rendered []byte

func (s *Service) run(w http.ResponseWriter, r *http.Request, op operation, c *call) {
	status, body, err := op(r.Context(), c)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answerJSON(w, status)
	writeBody(w, body)
}

// writeBody writes the body of an answer that has begun: a client that went away can't be told.
func writeBody(w http.ResponseWriter, body any) {
	if data, is := body.(rendered); is {
		_, _ = w.Write(data)
		return
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body)
}

// admit checks the token, the company header, the fence at the call's epoch, and what the
// caller has to do with the company, in this order.
func (s *Service) admit(w http.ResponseWriter, r *http.Request) (*call, error) {
	raw, err := token.Bearer(r.Header.Values("Authorization"))
	if err != nil {
		return nil, err
	}
	c := &call{w: w, r: r}
	if c.claims, err = s.Verifier.Verify(raw); err != nil {
		return nil, err
	}
	seen := observe.Of(r.Context())
	seen.ClientID = c.claims.ClientID
	id, refusal := s.Policy.ReadHeader(r.Header.Values(s.Policy.CompanyHeader))
	if refusal != nil {
		return nil, refusal
	}
	epochs := r.Header.Values(EpochHeader)
	if id == 0 || len(epochs) != 1 {
		return nil, s.notFromGateway()
	}
	epoch, err := company.ParseID(epochs[0]) // the same form: a positive decimal number
	if err != nil {
		return nil, s.notFromGateway()
	}
	c.company, c.epoch = id, company.Epoch(epoch)
	seen.Company = id
	return c, s.authorize(r.Context(), c)
}

func (s *Service) notFromGateway() error {
	return problem.New(problem.BadRequest, "This server answers gateways only. Send API calls to https://%s.", s.Policy.APIHost)
}

// authorize wants the fence to own the company at the call's epoch, and the caller to
// belong to the company: a person as a member, and the app that speaks for the person, or
// for itself, as installed. One query reads it all, so that the answers belong together.
func (s *Service) authorize(ctx context.Context, c *call) error {
	var f fence
	var member, permitsAll sql.NullBool
	err := s.DB.Read().QueryRowContext(ctx, `SELECT `+fenceColumns+`, m.is_active, i.permits_all
		FROM fence f
		LEFT JOIN memberships m ON m.company_id = f.company_id AND m.user_id = $2
		LEFT JOIN installations i ON i.company_id = f.company_id AND i.app_id = $3
		WHERE f.company_id = $1`, int64(c.company), c.claims.Subject, c.claims.App).Scan(append(f.columns(), &member, &permitsAll)...)
	if errors.Is(err, sql.ErrNoRows) {
		return &notOwned{}
	}
	if err != nil {
		return fmt.Errorf("read what the caller may do: %w", err)
	}
	if err := f.admits(s.Code, c.epoch); err != nil {
		return err
	}
	kind := c.claims.Kind
	if c.claims.Company != 0 && c.claims.Company != c.company || kind == rules.UserToken && !member.Bool {
		return s.Policy.NoAccess(kind)
	}
	if !permitsAll.Valid {
		// A member may know that the company exists, so it is the app that is named.
		return s.Policy.NoAccess(rules.DeveloperManagedToken)
	}
	if kind == rules.DeveloperManagedToken && !permitsAll.Bool {
		c.limitedTo = c.claims.App
	}
	return nil
}

// checkNamedCompanies refuses a call whose path, query or body names another company than
// its header. It reads query and body.
func (s *Service) checkNamedCompanies(c *call) (err error) {
	// Strictly: what one parser drops, another may take for a parameter.
	if c.query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return problem.New(problem.BadRequest, "The query can't be read: escape reserved characters, and separate parameters by &.").Because(err)
	}
	named := c.query["company_id"]
	if inPath := c.r.PathValue("company_id"); inPath != "" {
		named = append([]string{inPath}, named...)
	}
	for _, text := range named {
		if id, err := company.ParseID(text); err != nil || id != c.company {
			return s.mismatch()
		}
	}
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return nil // a body has no meaning there (RFC 9110 section 9.3.1) and isn't read
	}
	if c.body, err = readBody(c.w, c.r, s.MaxBody); err != nil {
		return err
	}
	return s.checkBody(c)
}

func (s *Service) mismatch() error {
	return problem.New(problem.CompanyMismatch, "The company_id in the path, the query or the body differs from the %s header. Name one company.", s.Policy.CompanyHeader)
}

// checkBody looks for company_id in the body, however deep it stands.
func (s *Service) checkBody(c *call) error {
	for name, value := range c.body {
		if name == "company_id" {
			if err := s.checkNamed(c, value); err != nil {
				return err
			}
			continue
		}
		dec := json.NewDecoder(bytes.NewReader(value))
		dec.UseNumber()
		if err := s.checkValue(c, dec); err != nil {
			return err
		}
	}
	return nil
}

// checkNamed compares a company_id with the company of the call.
func (s *Service) checkNamed(c *call, value json.RawMessage) error {
	text, ok := object{"company_id": value}.idText("company_id")
	if !ok {
		return nil
	}
	if id, err := company.ParseID(text); err != nil || id != c.company {
		return s.mismatch()
	}
	return nil
}

// checkValue reads a value and looks at the members of all objects in it.
func (s *Service) checkValue(c *call, dec *json.Decoder) error {
	start, err := dec.Token()
	if err != nil {
		return malformed("a member of it can't be read").Because(err)
	}
	if start != json.Delim('{') && start != json.Delim('[') {
		return nil
	}
	for dec.More() {
		if start == json.Delim('[') {
			if err := s.checkValue(c, dec); err != nil {
				return err
			}
			continue
		}
		key, err := dec.Token()
		if err != nil {
			return malformed("a member of it can't be read").Because(err)
		}
		if key != "company_id" {
			if err := s.checkValue(c, dec); err != nil {
				return err
			}
			continue
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return malformed("a member of it can't be read").Because(err)
		}
		if err := s.checkNamed(c, value); err != nil {
			return err
		}
	}
	_, err = dec.Token() // its end
	return err
}

// companyWide keeps service accounts that are limited to certain projects from changing what
// belongs to the whole company: its users could widen their limits.
func companyWide(op operation) operation {
	return func(ctx context.Context, c *call) (int, any, error) {
		if c.limitedTo != 0 {
			return 0, nil, problem.New(problem.Forbidden, "This service account is limited to certain projects and can't change the company or its users.")
		}
		return op(ctx, c)
	}
}
