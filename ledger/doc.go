// Package ledger counts the calls that break, or will break, because their app hasn't
// made the required changes: per environment, app, company, kind, method, normalised
// route and day. It says which apps these are, since when, what each must change, and
// what a date or a move would break, so that an operator can keep a deadline.
//
// A [Counter] in each gateway and login service counts in memory and ships its counts
// every half a second through a durable stream; the [Book] in the control role applies
// each batch exactly once to its database and answers the questions.
//
// It never delays or refuses a call, keeps no tokens, no bodies and no query strings, and
// decides nothing about calls: package rules does.
package ledger
