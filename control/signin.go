package control

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"mpr/operator"
	"mpr/problem"
	"mpr/rules"
	"mpr/token"
)

// SignIn is how operators sign in: control is an OAuth client of the login service of the
// environment whose users they are.
type SignIn struct {
	// Operators keeps roles, sessions and the audit log, and names that environment.
	Operators *operator.Service
	// Verify verifies access tokens of the environment, as its gateways do.
	Verify func(raw string) (*token.Claims, error)
	// URL is the base URL at which browsers find the admin API, LoginURL that of the login door;
	// both are "" where nobody can sign in.
	URL, LoginURL string
}

// clientID is that of the app which we are to the login service.
const clientID = "mpr-control"

// Where people sign in.
const (
	signInPath   = "/signin"
	callbackPath = "/signin/callback"
	redeemPath   = "/signin/session"
	signOutPath  = "/signout"
	// whereToSignIn tells command lines the URL of signInPath.
	whereToSignIn = systemPath + "/signin"
)

func (s *Service) openRoutes() {
	s.open.HandleFunc("GET "+whereToSignIn, s.tellSignIn)
	s.open.HandleFunc("GET /{$}", s.page(s.home))
	s.open.HandleFunc("GET "+signInPath, s.page(s.beginSignIn))
	s.open.HandleFunc("GET "+callbackPath, s.page(s.endSignIn))
	s.open.HandleFunc("POST "+signOutPath, s.page(s.signOut))
	s.open.HandleFunc("POST "+redeemPath, s.redeem)
}

// SignInInfo says where operators sign in.
type SignInInfo struct {
	// URL is "" where nobody can.
	URL string `json:"url"`
}

func (s *Service) tellSignIn(w http.ResponseWriter, _ *http.Request) {
	info := SignInInfo{}
	if s.signIn.URL != "" {
		info.URL = s.signIn.URL + signInPath
	}
	writeJSON(w, http.StatusOK, info)
}

// pending is a sign-in under way. Only the browser keeps it, sealed in a cookie: so that nobody
// else's browser can end it, and that strangers can't fill our store.
type pending struct {
	State    string `json:"state"`
	Verifier string `json:"verifier"`
	Until    int64  `json:"until"` // Unix seconds
	// To is where the browser goes afterwards.
	To string `json:"to,omitempty"`
	// Port is where a command line waits on the browser's machine, 0 for none, and Challenge and
	// CLIState are its own.
	Port      int    `json:"port,omitempty"`
	Challenge string `json:"challenge,omitempty"`
	CLIState  string `json:"cli_state,omitempty"`
}

// signInWithin is how long a person may take at the login service.
const signInWithin = 10 * time.Minute

// beginSignIn sends a browser to the login service (RFC 6749 section 4.1.1, with PKCE).
func (s *Service) beginSignIn(w http.ResponseWriter, r *http.Request) error {
	if s.signIn.URL == "" {
		return problem.New(problem.NotReady, "Nobody can sign in here yet: set control.url to the URL at which browsers find this.")
	}
	q := r.URL.Query()
	p, err := readSignIn(q)
	if err != nil {
		return err
	}
	// Cookies belong to one name, and people come by another, such as localhost. Once: a proxy may
	// change the name on the way.
	if u, err := url.Parse(s.signIn.URL); err == nil && u.Host != r.Host && !q.Has("again") {
		q.Set("again", "1")
		http.Redirect(w, r, s.signIn.URL+signInPath+"?"+q.Encode(), http.StatusSeeOther)
		return nil
	}
	if err := s.register(r.Context()); err != nil {
		return err
	}
	p.State, p.Verifier, p.Until = operator.NewSecret(), operator.NewSecret(), s.operators.Now().Add(signInWithin).Unix()
	name := s.pendingCookie(p.State)
	sealed, err := seal(s.secret, name, p)
	if err != nil {
		return err
	}
	s.setCookie(w, name, sealed, int(signInWithin.Seconds()))
	http.Redirect(w, r, s.signIn.LoginURL+"/oauth/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {s.signIn.URL + callbackPath}, "state": {p.State},
		"code_challenge": {operator.Challenge(p.Verifier)}, "code_challenge_method": {"S256"},
	}.Encode(), http.StatusSeeOther)
	return nil
}

// readSignIn reads what a sign-in is for: a browser, which goes on to a path of ours, or a command
// line that waits at a port of the same machine. It names no host, so that it can lead nowhere else.
func readSignIn(q url.Values) (p pending, err error) {
	p.To = localPath(q.Get("to"))
	if !q.Has("port") {
		return p, nil
	}
	wrong := problem.New(problem.BadRequest, "The command line that opened this page has made a mistake: port, challenge and state belong together. Update it.")
	port, err := strconv.ParseUint(q.Get("port"), 10, 16)
	p.Port, p.Challenge, p.CLIState = int(port), q.Get("challenge"), q.Get("state")
	if err != nil || port == 0 || !operator.IsChallenge(p.Challenge) || !operator.IsChallenge(p.CLIState) {
		return p, wrong.Because(err)
	}
	return p, nil
}

// localPath is a path of ours, with its query; "/" in place of everything else.
func localPath(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(text, "/") || len(text) > 1000 ||
		strings.HasPrefix(text, "//") || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == '\\' || c >= 0x7f }) {
		return "/"
	}
	return text
}

// endSignIn takes the browser back from the login service.
func (s *Service) endSignIn(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	p, err := s.takePending(w, r, q.Get("state"))
	if err != nil {
		return err
	}
	switch {
	case q.Get("error") == string(problem.AccessDenied):
		return problem.New(problem.Forbidden, "You didn't allow it at the login service, so you aren't signed in.")
	case q.Get("error") != "" || q.Get("code") == "":
		return problem.New(problem.BadRequest, "The login service didn't let you in. Start again.").Because(fmt.Errorf("%.200q", q.Get("error_description")))
	}
	u, err := s.exchange(r.Context(), q.Get("code"), p.Verifier)
	if err != nil {
		return err
	}
	if p.Port != 0 {
		code, err := s.operators.IssueCode(r.Context(), u, p.Challenge)
		if err != nil {
			return err
		}
		// A page, and no redirect: browsers hold what follows the form at the login service to that
		// page's policy, which allows us only.
		s.render(w, http.StatusOK, view{Page: "hand-over", Title: "Signed in", Login: u.Login, Next: "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)) +
			"/?" + url.Values{"code": {code}, "state": {p.CLIState}}.Encode()})
		return nil
	}
	// A session that somebody planted is never taken over, and the one before ends.
	if before, err := s.browserSession(r); err != nil {
		return err
	} else if before != nil {
		if err := s.operators.End(r.Context(), before.ID, before.UserID); err != nil && !errors.Is(err, problem.New(problem.NotFound, "")) {
			return err
		}
	}
	secret, n, err := s.operators.Begin(r.Context(), u, operator.Browser, r.Header.Get(problem.RequestIDHeader))
	if err != nil {
		return err
	}
	s.setCookie(w, s.sessionCookie(), secret, int(n.Expires.Sub(n.Created).Seconds()))
	http.Redirect(w, r, p.To, http.StatusSeeOther)
	return nil
}

// takePending finds the sign-in that the browser began, and takes it out of the browser.
func (s *Service) takePending(w http.ResponseWriter, r *http.Request, state string) (pending, error) {
	gone := problem.New(problem.BadRequest, "This browser hasn't begun to sign in here, or too long ago. Start again.")
	if !operator.IsChallenge(state) {
		return pending{}, gone
	}
	name := s.pendingCookie(state)
	cookie, err := r.Cookie(name)
	if err != nil {
		return pending{}, gone.Because(err)
	}
	s.setCookie(w, name, "", -1)
	p, err := unseal(s.secret, name, cookie.Value)
	if err != nil {
		return pending{}, gone.Because(err)
	}
	if subtle.ConstantTimeCompare([]byte(p.State), []byte(state)) != 1 || s.operators.Now().Unix() >= p.Until {
		return pending{}, gone
	}
	return p, nil
}

// exchange turns the code into a token, verifies it as a gateway does, and asks whose it is. The
// token was for that alone: its grant is revoked.
func (s *Service) exchange(ctx context.Context, code, verifier string) (u operator.User, err error) {
	e, err := s.environment(s.operators.Environment)
	if err != nil {
		return u, err
	}
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	_, err = s.oauth.Call(ctx, http.MethodPost, e.IdentityURL+"/oauth/token", map[string]string{
		"grant_type": "authorization_code", "client_id": clientID, "code": code, "redirect_uri": s.signIn.URL + callbackPath, "code_verifier": verifier,
	}, &granted)
	if errors.Is(err, problem.New(problem.InvalidGrant, "")) {
		return u, problem.New(problem.BadRequest, "The login service doesn't know this sign-in any more: it was used already, or took too long. Start again.").Because(err)
	}
	if err != nil {
		return u, relay(err, problem.IdentityUnavailable, "The login service")
	}
	claims, err := s.verify(ctx, granted.AccessToken)
	// A token that was made for another app says nothing about who is there.
	if err == nil && (claims.ClientID != clientID || claims.Kind != rules.UserToken) {
		err = fmt.Errorf("it was made for %s", claims.ClientID)
	}
	if err != nil {
		return u, problem.New(problem.IdentityUnavailable, "The login service's answer can't be used; see the log of the control role.").Because(err)
	}
	_, err = s.oauth.Call(ctx, http.MethodPost, e.IdentityURL+"/oauth/revoke", map[string]string{"client_id": clientID, "token": granted.AccessToken}, nil)
	if err == nil {
		u, err = s.operators.Identity.User(ctx, claims.Subject)
	}
	if err == nil && u.Disabled { // just now
		return u, problem.New(problem.Forbidden, "Your account was disabled.")
	}
	return u, relay(err, problem.IdentityUnavailable, "The login service")
}

// verify verifies a token that was made just now. Its key may be so new that we haven't heard of it,
// where the directory was away.
func (s *Service) verify(ctx context.Context, raw string) (*token.Claims, error) {
	ctx, cancel := context.WithTimeout(ctx, keyWithin)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		claims, err := s.signIn.Verify(raw)
		if err == nil {
			return claims, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-again.C:
		}
	}
}

// keyWithin is how long a key may take from the login service to us.
const keyWithin = 5 * time.Second

// registration is when the login service was last told of the app that we are to it.
type registration struct {
	mu sync.Mutex
	at time.Time
}

const registerEvery = time.Minute

// register tells the login service of us, and where people come back to. It does so now and again:
// an identity store may be restored, and the URL be another one after a restart.
func (s *Service) register(ctx context.Context) error {
	s.registered.mu.Lock()
	fresh := time.Since(s.registered.at) < registerEvery
	s.registered.mu.Unlock()
	if fresh {
		return nil
	}
	e, err := s.environment(s.operators.Environment)
	if err != nil {
		return err
	}
	err = s.identity(ctx, e, http.MethodPut, "/internal/apps/"+clientID, newIdentityApp{Name: "mpr control", Kind: KindInstalled, RedirectURIs: []string{s.signIn.URL + callbackPath}}, nil)
	if err == nil {
		s.registered.mu.Lock()
		s.registered.at = time.Now()
		s.registered.mu.Unlock()
	}
	return err
}

// redeem gives a command line its session, for the code that its browser has brought.
func (s *Service) redeem(w http.ResponseWriter, r *http.Request) {
	var in Redemption
	err := readJSON(r, &in)
	var out NewSession
	if err == nil {
		var u operator.User
		if u, err = s.operators.RedeemCode(r.Context(), in.Code, in.Verifier); err == nil {
			out.Secret, out.Session, err = s.operators.Begin(r.Context(), u, operator.CommandLine, r.Header.Get(problem.RequestIDHeader))
		}
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, out)
}

// Redemption is what a command line sends for its session.
type Redemption struct {
	Code     string `json:"code"`
	Verifier string `json:"verifier"`
}

// NewSession is a session and its secret, which is told once.
type NewSession struct {
	Secret  string            `json:"secret"`
	Session *operator.Session `json:"session"`
}

// signOut ends the session of the browser.
func (s *Service) signOut(w http.ResponseWriter, r *http.Request) error {
	n, err := s.browserSession(r)
	if err != nil {
		return err
	}
	if n != nil {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		if err := n.CheckCSRF(r.PostFormValue("csrf")); err != nil {
			return err
		}
		if err := s.operators.End(r.Context(), n.ID, n.UserID); err != nil && !errors.Is(err, problem.New(problem.NotFound, "")) {
			return err
		}
	}
	s.setCookie(w, s.sessionCookie(), "", -1)
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// home says who is signed in.
func (s *Service) home(w http.ResponseWriter, r *http.Request) error {
	n, err := s.browserSession(r)
	if err != nil {
		return err
	}
	v := view{Page: "home", Title: "mpr control", LogoutURL: s.signIn.LoginURL + "/logout"}
	if n != nil {
		v.Login, v.Role, v.CSRF = n.Login, n.Role, n.CSRF()
	}
	s.render(w, http.StatusOK, v)
	return nil
}

// browserSession is the session of the request's cookie; nil where there is none.
func (s *Service) browserSession(r *http.Request) (*operator.Session, error) {
	cookie, err := r.Cookie(s.sessionCookie())
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // nobody has signed in
	}
	return s.operators.Session(r.Context(), cookie.Value, operator.Browser)
}

// sessionCookie names the cookie of a session. On https the name makes browsers insist on Secure,
// on this host and on no Domain (RFC 6265bis section 4.1.3.2). Plain http is for this machine,
// where systems differ by port; cookies don't (RFC 6265 section 8.5), so the name does.
func (s *Service) sessionCookie() string {
	if s.secure() {
		return "__Host-mpr_operator"
	}
	u, err := url.Parse(s.signIn.URL)
	if err != nil {
		return "mpr_operator"
	}
	return "mpr_operator_" + cmp.Or(u.Port(), "80")
}

// pendingCookie names the cookie of a sign-in under way: a browser may have several.
func (s *Service) pendingCookie(state string) string {
	name := "mpr_signin_" + state[:12]
	if s.secure() {
		name = "__Host-" + name
	}
	return name
}

func (s *Service) secure() bool { return strings.HasPrefix(s.signIn.URL, "https://") }

// setCookie sets a cookie that scripts don't see. It comes along when a link leads here from
// another site, as that from the login service does, but with no form of another site.
func (s *Service) setCookie(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, Secure: s.secure(), SameSite: http.SameSiteLaxMode})
}
