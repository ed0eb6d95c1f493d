// Package control is the admin API, and the client that the commands use: companies,
// regions, users, apps, service accounts and signing keys of every environment. It is
// also where operators sign in, by way of the login service; who may ask for what stands
// in one table (routes.go), and package operator keeps roles, sessions and the audit log.
//
// A request is checked, sent to whoever keeps what it is about (a region its
// companies, the login service its users, apps and keys, the directory the
// placements), and answered from there. Control keeps nothing of its own: it may be
// killed between two steps, and the same request again brings the rest about. What
// changes a company's members or apps waits a moment for the global index, so that List
// Companies shows it when the answer is there.
//
// It serves no API client and stands in the way of no call: doors and regions go on
// without it. It sees no access tokens but those by which operators sign in, and no signing
// keys, and shows a client secret once, in the answer that made it.
package control
