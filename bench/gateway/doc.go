// Command gateway measures what a call costs the gateway, beside nginx and HAProxy that do less of
// the same job in the same run.
//
// The job: 1,000,000 companies, of which 1,000 are called, with 100 access tokens, on 64
// connections; the answer is 1 KB from a static upstream, one server for each of three regions.
// The gateway is a process of the built binary with its real configuration (rules, ledger,
// metrics, limits of 100 apps, a sampled access log, tokens by the login service); control with
// the directory and the login service are processes as well. The peers have their best
// configuration: upstream connections that are kept, the companies as a map in memory. Neither
// counts anything or writes a log, and nginx can't look at tokens at all.
//
// Each proxy has core 0 to itself while it is measured; wrk and the upstream share core 1. Rounds
// take turns. Before anything is measured each proxy must send each of the companies that are
// called to the right region, and who checks tokens must refuse a wrong one.
//
// Figures: CPU time of the process (utime and stime) over the calls served, calls each second, and
// wrk's latencies, all at full load; memory; what half of the load waits for, less what it waits
// for without a proxy. Tokens are remembered by the gateway: each one is verified once. HAProxy
// can't; its figures with RS256 verify each call.
//
// It judges no figure: docs/benchmarks.md has them, with the machine that they are of.
package main
