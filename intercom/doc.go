// Package intercom is how our own processes talk to one another: JSON over HTTP, with a
// secret that all of them have. Whoever asks uses a [Caller]; whoever is asked wants the
// secret by [Admit].
//
// It knows no role and no path, and is not for what clients send: their calls carry access
// tokens.
package intercom
