// Package acceptance tests mpr as its users meet it. It builds the real binary with the
// race detector, starts `mpr dev` as a process, reads the one line of JSON that it
// prints, and from then on talks to its doors only: with curl, with the JavaScript SDK,
// with golang.org/x/oauth2, with a browser, with raw bytes.
//
// It imports nothing of ours and looks into no file but the CA's certificate and the
// admin token, whose places the JSON names. What needs a program that this machine lacks
// is skipped and says so; with CI=true it fails.
package acceptance
