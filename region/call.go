package region

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// Headers between gateways and regions.
const (
	// EpochHeader stamps a call with the epoch of the placement that the gateway used.
	EpochHeader = "Mpr-Epoch"
	// RegionHeader tells a gateway where a company lives, on a 421.
	RegionHeader = "Mpr-Region"
)

// call is an API call whose caller may make it.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	claims  *token.Claims
	company company.ID
	epoch   company.Epoch
	// limited is set for a developer-managed service account that is limited to the
	// projects which the company's administrator permits.
	limited bool
	// body is the request's object, read and checked; nil where it has none.
	body object
}

// operation is one thing that can be done with a resource. It answers a status and what
// becomes the JSON body.
type operation func(context.Context, *call) (status int, body any, err error)

// answer runs the checks that all calls have in common, and the operation.
func (s *Service) answer(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.admit(w, r)
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		status, body, err := op(r.Context(), c)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		writeJSON(w, status, body)
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // the status is sent: a client that went away can't be told
}

// admit checks, in this order: the token, the company header, the epoch against the
// fence, membership and installation, and that no other company is named.
func (s *Service) admit(w http.ResponseWriter, r *http.Request) (*call, error) {
	raw, err := token.Bearer(r.Header.Values("Authorization"))
	if err != nil {
		return nil, err
	}
	c := &call{w: w, r: r}
	if c.claims, err = s.Verifier.Verify(raw); err != nil {
		return nil, err
	}
	id, refusal := s.Policy.ReadHeader(r.Header.Values(s.Policy.CompanyHeader))
	if refusal != nil {
		return nil, refusal
	}
	epoch, err := strconv.ParseInt(r.Header.Get(EpochHeader), 10, 64)
	if id == 0 || err != nil {
		return nil, problem.New(problem.BadRequest, "This server answers gateways only. Send API calls to https://%s.", s.Policy.APIHost)
	}
	c.company, c.epoch = id, company.Epoch(epoch)
	if err := s.checkFence(r.Context(), c); err != nil {
		return nil, s.misdirected(w, err)
	}
	if err := s.authorize(r.Context(), c); err != nil {
		return nil, err
	}
	return c, s.checkNamedCompanies(c)
}

// refuse answers an error of an operation.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	problem.Write(w, r, s.misdirected(w, err))
}

// notOwned says that the fence doesn't own the company at the call's epoch.
type notOwned struct {
	// where it lives as far as the fence knows; the zero value where it doesn't know.
	where company.Placement
}

func (n *notOwned) Error() string { return "the fence doesn't own the company at this epoch" }

// misdirected turns a refusal of the fence into a 421 that tells the gateway where to go
// (RFC 9110 section 15.5.20).
func (s *Service) misdirected(w http.ResponseWriter, err error) error {
	var n *notOwned
	if !errors.As(err, &n) {
		return err
	}
	if n.where.Region != "" {
		w.Header().Set(RegionHeader, string(n.where.Region))
		w.Header().Set(EpochHeader, strconv.FormatInt(int64(n.where.Epoch), 10))
	}
	return problem.New(problem.WrongRegion, "Region %s doesn't serve this company at this epoch.", s.Code).Because(err)
}

// The states of a fence.
const (
	owned  = "owned"
	frozen = "frozen"
	gone   = "gone"
)

// fence is the region's own note of a company.
type fence struct {
	State      string         `json:"state"`
	Epoch      company.Epoch  `json:"epoch"`
	Version    int64          `json:"version"`
	GoneRegion company.Region `json:"gone_region,omitempty"`
	GoneEpoch  company.Epoch  `json:"gone_epoch,omitempty"`
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readFence answers a company's fence; nil where the region has never heard of it.
func readFence(ctx context.Context, q querier, id company.ID) (*fence, error) {
	var f fence
	err := q.QueryRowContext(ctx, `SELECT state, epoch, version, gone_region, gone_epoch FROM fence WHERE company_id = $1`, int64(id)).
		Scan(&f.State, &f.Epoch, &f.Version, &f.GoneRegion, &f.GoneEpoch)
	if isNoRows(err) {
		return nil, nil //nolint:nilnil // an unknown company is no error here
	}
	if err != nil {
		return nil, fmt.Errorf("read fence: %w", err)
	}
	return &f, nil
}

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// check says whether the fence lets a call of this epoch pass.
func (f *fence) check(code company.Region, id company.ID, epoch company.Epoch) error {
	if f == nil {
		return &notOwned{}
	}
	if f.State == owned && f.Epoch == epoch {
		return nil
	}
	where := company.Placement{Company: id, Region: code, Epoch: f.Epoch}
	if f.State == gone {
		where = company.Placement{Company: id, Region: f.GoneRegion, Epoch: f.GoneEpoch}
	}
	return &notOwned{where}
}

func (s *Service) checkFence(ctx context.Context, c *call) error {
	f, err := readFence(ctx, s.DB.Read(), c.company)
	if err != nil {
		return err
	}
	return f.check(s.Code, c.company, c.epoch)
}

// authorize wants the caller to belong to the company: a person as a member, and the app
// that speaks for the person, or for itself, as installed.
func (s *Service) authorize(ctx context.Context, c *call) error {
	if c.claims.Company != 0 && c.claims.Company != c.company {
		return s.Policy.NoAccess(c.claims.Kind)
	}
	if c.claims.Kind == rules.UserToken {
		var active int64
		err := s.DB.Read().QueryRowContext(ctx, `SELECT is_active FROM memberships WHERE company_id = $1 AND user_id = $2`,
			int64(c.company), c.claims.Subject).Scan(&active)
		if err != nil && !isNoRows(err) {
			return fmt.Errorf("read membership: %w", err)
		}
		if active == 0 {
			return s.Policy.NoAccess(c.claims.Kind)
		}
	}
	var permitsAll int64
	err := s.DB.Read().QueryRowContext(ctx, `SELECT permits_all FROM installations WHERE company_id = $1 AND app_id = $2`,
		int64(c.company), c.claims.App).Scan(&permitsAll)
	if isNoRows(err) {
		// Who is a member may know that the company exists.
		return s.Policy.NoAccess(rules.DeveloperManagedToken)
	}
	if err != nil {
		return fmt.Errorf("read installation: %w", err)
	}
	c.limited = c.claims.Kind == rules.DeveloperManagedToken && permitsAll == 0
	return nil
}

// checkNamedCompanies refuses a call whose path, query or body names another company than
// its header. It reads the body.
func (s *Service) checkNamedCompanies(c *call) error {
	named := slices.Clone(c.r.URL.Query()["company_id"])
	if inPath := c.r.PathValue("company_id"); inPath != "" {
		named = append(named, inPath)
	}
	for _, text := range named {
		if id, err := company.ParseID(text); err != nil || id != c.company {
			return s.mismatch()
		}
	}
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return nil
	}
	var err error
	if c.body, err = s.readBody(c); err != nil {
		return err
	}
	return s.checkObject(c, c.body)
}

func (s *Service) mismatch() error {
	return problem.New(problem.CompanyMismatch, "The company_id in the path, the query or the body differs from the %s header. Name one company.", s.Policy.CompanyHeader)
}
