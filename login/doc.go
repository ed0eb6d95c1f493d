// Package login is the login role: the OAuth 2.0 endpoints and pages of the login door,
// the identity store behind them (users, apps, grants, signing keys), and the global
// index (which companies has this user, this app?) that lists are answered from.
//
// A request for a token goes through params.go (what was sent), client.go (who sends it)
// and one file per grant; grant.go and revocation.go say how a grant lives and ends. A
// person goes through authorize.go (the app's request, consent, code) and signin.go.
// The internal listener serves the control role, and the two calls without a company
// that gateways pass on.
//
// It never decides who may do what in a company: regions do. It never talks to a region.
package login
