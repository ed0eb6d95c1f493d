// Package problem is how errors reach users: a [Problem] has a stable code, a
// message that says what happened and what to do, and one table turns the code into
// an HTTP status. Errors that aren't problems become a plain 500 whose details stay
// in the log.
//
// It decides nothing: who refuses a call, and why, is the business of the caller. It
// never shows the text of a wrapped error to a client.
package problem
