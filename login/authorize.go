package login

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"mpr/problem"
)

// authorize answers GET /oauth/authorize (RFC 6749 section 4.1.1): sign-in first, then
// the consent page. The query is the only memory of the request between the steps, so
// that there is no place to return to that somebody could forge.
func (s *Service) authorize(w http.ResponseWriter, r *http.Request) error {
	req, err := s.readRequest(w, r)
	if err != nil || req == nil {
		return err
	}
	n, err := s.session(r)
	if err != nil {
		return err
	}
	if n == nil {
		http.Redirect(w, r, loginPath+"?"+r.URL.RawQuery, http.StatusFound)
		return nil
	}
	s.render(w, http.StatusOK, view{
		Page: "consent", Title: "Allow " + req.app.Name + "?", App: req.app, User: n.user, CSRF: n.csrf,
		Action: authorizePath + "?" + r.URL.RawQuery, formTarget: formTarget(req.redirectURI),
	})
	return nil
}

// consent answers the consent page's form.
func (s *Service) consent(w http.ResponseWriter, r *http.Request) error {
	n, err := s.session(r)
	if err != nil {
		return err
	}
	if n == nil {
		http.Redirect(w, r, loginPath+"?"+r.URL.RawQuery, http.StatusSeeOther)
		return nil
	}
	posted := params{}
	if err := posted.addForm(http.MaxBytesReader(w, r.Body, maxParams)); err != nil {
		return err
	}
	if err := n.checkCSRF(posted); err != nil {
		return err
	}
	req, err := s.readRequest(w, r)
	if err != nil || req == nil {
		return err
	}
	switch posted["decision"] {
	case "allow":
		code, err := s.issueCode(r.Context(), req, n.user)
		if err != nil {
			return err
		}
		s.redirect(w, r, req, url.Values{"code": {code}})
	case "deny":
		s.redirectError(w, r, req, problem.New(problem.AccessDenied, "The person denied the request."))
	default:
		return problem.New(problem.BadRequest, "The form has no decision. Go back and choose Allow or Deny.")
	}
	return nil
}

// readRequest checks an authorization request. Mistakes that concern the client or its
// redirect URI are errors, for a page: "the authorization server SHOULD inform the
// resource owner of the error and MUST NOT automatically redirect the user-agent to the
// invalid redirection URI" (section 4.1.2.1). Of all others the client is told by
// redirect, and the request is nil.
func (s *Service) readRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	p := params{}
	if err := p.addQuery(r.URL.RawQuery); err != nil {
		return nil, err
	}
	a, err := s.appByClientID(r.Context(), p["client_id"])
	if err != nil {
		return nil, err
	}
	if hint := s.elsewhere(p["client_id"]); a == nil && hint != "" {
		return nil, problem.New(problem.BadRequest, "The app that sent you here came to the wrong address: %s. Tell its developer.", hint)
	}
	if a == nil || a.serviceAccount() {
		return nil, problem.New(problem.BadRequest, "The app that sent you here is unknown (client_id). Tell its developer.")
	}
	req := &request{app: a, state: p["state"], redirectURI: p["redirect_uri"], uriWasSent: p["redirect_uri"] != ""}
	if !req.uriWasSent && len(a.RedirectURIs) == 1 {
		req.redirectURI = a.RedirectURIs[0] // section 3.1.2.3
	}
	if !registered(a, req.redirectURI) {
		return nil, problem.New(problem.BadRequest, "The app that sent you here has not registered the address to which you would return (redirect_uri). Tell its developer.")
	}
	if err := req.check(p); err != nil {
		s.redirectError(w, r, req, err)
		return nil, nil //nolint:nilnil // the client has been told
	}
	return req, nil
}

// registered compares exactly, character by character (RFC 9700 section 2.1).
func registered(a *app, uri string) bool { return slices.Contains(a.RedirectURIs, uri) }

var challengeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`) // base64url of a SHA-256

func (req *request) check(p params) *problem.Problem {
	switch {
	case p["response_type"] == "":
		return problem.New(problem.InvalidRequest, "The parameter response_type is missing.")
	case p["response_type"] != "code":
		return problem.New(problem.UnsupportedResponseType, "The response type must be code.")
	}
	method, challenge := p["code_challenge_method"], p["code_challenge"]
	switch {
	case challenge == "" && req.app.public():
		return problem.New(problem.InvalidRequest, "This app is a public client: send code_challenge, with code_challenge_method=S256.")
	case challenge == "" && method != "":
		return problem.New(problem.InvalidRequest, "The parameter code_challenge is missing.")
	case challenge != "" && method != "S256":
		return problem.New(problem.InvalidRequest, "The code_challenge_method must be S256.")
	case challenge != "" && !challengeForm.MatchString(challenge):
		return problem.New(problem.InvalidRequest, "The code_challenge is not the base64url form of a SHA-256.")
	}
	req.challenge = challenge
	return nil
}

func (s *Service) redirectError(w http.ResponseWriter, r *http.Request, req *request, why *problem.Problem) {
	s.redirect(w, r, req, url.Values{"error": {string(why.Code)}, "error_description": {why.Message}})
}

// redirect sends the person back to the app, or to the page that shows the code.
func (s *Service) redirect(w http.ResponseWriter, r *http.Request, req *request, answer url.Values) {
	if req.redirectURI == outOfBand {
		if code := answer.Get("code"); code != "" {
			s.render(w, http.StatusOK, view{Page: "code", Title: "Copy the code", App: req.app, Code: code})
			return
		}
		s.render(w, http.StatusOK, view{Page: "error", Title: "Not allowed", Message: answer.Get("error_description")})
		return
	}
	if req.state != "" {
		answer.Set("state", req.state)
	}
	answer.Set("iss", s.baseURL(r)) // RFC 9207: which server this answer comes from
	separator := "?"
	if strings.Contains(req.redirectURI, "?") {
		separator = "&" // "MUST be retained when adding additional query parameters" (section 3.1.2)
	}
	// 303: the browser must not repeat the form's POST to the app.
	http.Redirect(w, r, req.redirectURI+separator+answer.Encode(), http.StatusSeeOther)
}

// plainHost is a host that may stand in a policy: nothing in it ends a directive.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`)

// formTarget is what the consent page's policy must allow beside ourselves, since Chromium
// holds redirects after a form to it too.
func formTarget(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil || redirectURI == outOfBand:
		return ""
	case u.Scheme != "http" && u.Scheme != "https":
		return u.Scheme + ":"
	case strings.HasPrefix(u.Host, "["):
		return u.Scheme + ":" // a policy can't name an IPv6 address (CSP level 3, host-source)
	case plainHost.MatchString(u.Host):
		return u.Scheme + "://" + u.Host
	}
	return ""
}
