// Command move measures moves: how long calls wait while a company changes over, how many rows
// a second are copied, and what the source's other work suffers meanwhile.
//
// It starts mpr as it runs in production, each role a process of the built binary on one
// mpr.yaml, calls it through a gateway and steers it by the admin API. Calls are sent at times
// that are fixed beforehand, and their latency counts from these times: a client that waits for
// an answer before it sends the next call would leave out just the calls that a pause delays.
//
// It fails where a call fails, where a write that was answered isn't there exactly once at the
// end, or where a move doesn't come to its end. It never judges a figure: docs/benchmarks.md
// has them, with the machine that they are of.
package main
