package control

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"mpr/operator"
)

// SignInURL is where people sign in; "" where nobody can.
func (c *Client) SignInURL(ctx context.Context) (string, error) {
	var out SignInInfo
	_, err := c.caller.Call(ctx, http.MethodGet, c.admin+whereToSignIn, nil, &out)
	return out.URL, c.explain(err)
}

// SignInQuery is what a command line that waits at a port of this machine adds to the URL where
// people sign in. It answers the verifier, which shows that a code is its own, and the state that
// comes back with it.
func SignInQuery(port int) (query, verifier, state string) {
	verifier, state = operator.NewSecret(), operator.NewSecret()
	return url.Values{"port": {strconv.Itoa(port)}, "challenge": {operator.Challenge(verifier)}, "state": {state}}.Encode(), verifier, state
}

// Redeem begins the session that a code is for.
func (c *Client) Redeem(ctx context.Context, in Redemption) (out NewSession, err error) {
	_, err = c.caller.Call(ctx, http.MethodPost, c.admin+redeemPath, in, &out)
	return out, c.explain(err)
}

// doSystem asks for what concerns the system as a whole.
func (c *Client) doSystem(ctx context.Context, method, path string, in, out any) error {
	_, err := c.caller.Call(ctx, method, c.admin+path, in, out)
	return c.explain(err)
}

// Me says who we are to the admin API.
func (c *Client) Me(ctx context.Context) (out Me, err error) {
	err = c.doSystem(ctx, http.MethodGet, sessionPath, nil, &out)
	return out, err
}

// SignOut ends the session whose secret the client shows.
func (c *Client) SignOut(ctx context.Context) error {
	return c.doSystem(ctx, http.MethodDelete, sessionPath, nil, nil)
}

// Sessions lists the sessions: all of them to admins, to others their own.
func (c *Client) Sessions(ctx context.Context) (out SessionList, err error) {
	err = c.doSystem(ctx, http.MethodGet, sessionsPath, nil, &out)
	return out, err
}

// EndSession ends a session by its id.
func (c *Client) EndSession(ctx context.Context, id string) error {
	return c.doSystem(ctx, http.MethodDelete, sessionsPath+"/"+segment(id), nil, nil)
}

// Operators lists who was granted a role.
func (c *Client) Operators(ctx context.Context) (out OperatorList, err error) {
	err = c.doSystem(ctx, http.MethodGet, operatorsPath, nil, &out)
	return out, err
}

// GrantRole gives a user a role.
func (c *Client) GrantRole(ctx context.Context, login, role string) (out RoleChange, err error) {
	err = c.doSystem(ctx, http.MethodPut, operatorsPath+"/"+segment(login), NewRole{role}, &out)
	return out, err
}

// RevokeRole takes a user's role away.
func (c *Client) RevokeRole(ctx context.Context, login string) (out RoleChange, err error) {
	err = c.doSystem(ctx, http.MethodDelete, operatorsPath+"/"+segment(login), nil, &out)
	return out, err
}

// AuditQuery selects entries of the audit log.
type AuditQuery operator.Query

func (q AuditQuery) encode() string {
	v := url.Values{}
	for name, text := range map[string]string{"by": q.By, "subject": q.Subject, "environment": q.Environment, "after": q.After} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	if q.Limit != 0 {
		v.Set("per_page", strconv.Itoa(q.Limit))
	}
	return v.Encode()
}

// Audit answers a page of the audit log.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (out AuditPage, err error) {
	err = c.doSystem(ctx, http.MethodGet, auditPath+"?"+q.encode(), nil, &out)
	return out, err
}

// AuditCSV writes all that a query selects as CSV.
func (c *Client) AuditCSV(ctx context.Context, to io.Writer, q AuditQuery) error {
	return c.explain(c.caller.Download(ctx, c.admin+auditPath+".csv?"+q.encode(), to))
}
