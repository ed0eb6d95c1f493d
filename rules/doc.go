// Package rules is the seed: the sentences that say which calls the front door
// forwards, which it answers itself and which it refuses, as pure functions over plain
// values. A sentence of the seed that decides something about a call is quoted beside
// the code that makes it true, here and nowhere else.
//
// It does no I/O, reads no clock and knows no HTTP library: the caller takes host,
// method, path, header values, token facts and placement from wherever it has them, so
// that the HTTP engine under it can be replaced.
package rules
