// Package operator says who may use the admin API and the pages of the control role, and keeps
// what they did: roles that users of the login service were granted, their sessions, and the
// audit log. All three are in the control store, so that every control process agrees; and so are
// the idempotency keys of requests that make something ([Service.Claim]).
//
// A user signs in at the login service, elsewhere; here begins what follows: [Service.Begin]
// makes a session for a browser or a command line, [Service.Session] finds it again with the
// role that its user has at that moment, and from time to time asks the login service whether
// the account is still what it was. Secrets of sessions and codes are stored as hashes.
//
// The log takes an entry before a change, and its outcome with the change itself where that is
// in the same store ([Record.With]), or after it. Entries are added and, when their time is
// over, deleted; nothing changes one.
//
// It knows no route and no page, sees no password, and asks nobody for permission: whoever
// serves a request compares the role of its session with what the request needs.
package operator
