package login

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"mpr/ledger"
	"mpr/problem"
)

// authenticateClient finds the app that sends a request and checks its secret (RFC 6749
// section 2.3.1): HTTP Basic, or client_id and client_secret among the parameters. A
// public client names itself only.
func (s *Service) authenticateClient(ctx context.Context, w http.ResponseWriter, r *http.Request, p params) (*app, error) {
	id, secret := p["client_id"], p["client_secret"]
	basicID, basicSecret, basic, err := readBasic(r.Header.Values("Authorization"))
	if err != nil {
		return nil, err
	}
	if basic {
		// "The client MUST NOT use more than one authentication method in each request."
		// (section 2.3) The same credentials twice contradict nothing, and some clients
		// send them.
		if id != "" && id != basicID || secret != "" && secret != basicSecret {
			return nil, problem.New(problem.InvalidRequest, "The client credentials in the Authorization header and in the parameters differ. Send them in one place.")
		}
		id, secret = basicID, basicSecret
	}
	refused := problem.New(problem.InvalidClient, "Client authentication failed: unknown client, or wrong client secret.")
	if id == "" {
		refused = problem.New(problem.InvalidClient, "Client authentication failed: send client_id and client_secret, as parameters or by HTTP Basic.")
	}
	a, err := s.appByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	if hint := s.elsewhere(id); a == nil && hint != "" {
		refused = problem.New(problem.InvalidClient, "Client authentication failed: %s", hint).Because(errWrongEnvironment)
		if s.Ledger != nil {
			s.Ledger.Count(ledger.Call{
				Kind: ledger.WrongEnvironment, Host: r.Host, UserAgent: r.UserAgent(), Method: r.Method, Path: r.URL.Path, Status: problem.InvalidClient.Status(), Refused: true,
			})
		}
	}
	if a == nil || !a.public() && !a.hasSecret(secret, s.Now()) || a.public() && secret != "" {
		return nil, refused
	}
	return a, nil
}

// errWrongEnvironment is the cause of a refusal of a client whose id is that of another
// environment.
var errWrongEnvironment = problem.New(problem.WrongEnvironment, "the client id is that of another environment")

// elsewhere says where a client id belongs that is unknown here; nothing where that can't
// be told. It goes by how the id begins and asks nobody, so it tells no one whether an id
// is in use.
func (s *Service) elsewhere(clientID string) string {
	for _, other := range s.ClientsOf {
		switch {
		case clientID == "":
		case other.Prefix != "" && strings.HasPrefix(clientID, other.Prefix):
			return "this client id belongs to " + other.Environment + ", use " + other.LoginURL
		case other.Prefix == "" && !strings.HasPrefix(clientID, s.ClientPrefix):
			return "the client ids of this environment begin with " + s.ClientPrefix + "; for those of " + other.Environment + " use " + other.LoginURL
		}
	}
	return ""
}

// readBasic reads credentials sent by HTTP Basic. Name and password are form-encoded
// before they are joined (RFC 6749 section 2.3.1). A Bearer token isn't looked at.
func readBasic(values []string) (id, secret string, ok bool, err error) {
	if len(values) == 0 {
		return "", "", false, nil
	}
	malformed := problem.New(problem.InvalidRequest, "The Authorization header is malformed. Send HTTP Basic with client_id and client_secret.")
	if len(values) > 1 {
		return "", "", false, malformed
	}
	scheme, encoded, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", false, malformed.Because(err)
	}
	rawID, rawSecret, found := strings.Cut(string(decoded), ":")
	if !found {
		return "", "", false, malformed
	}
	if id, err = url.QueryUnescape(rawID); err != nil {
		return "", "", false, malformed.Because(err)
	}
	if secret, err = url.QueryUnescape(rawSecret); err != nil {
		return "", "", false, malformed.Because(err)
	}
	if id == "" {
		return "", "", false, malformed
	}
	return id, secret, true, nil
}
