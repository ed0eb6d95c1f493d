// Package observe lets an operator see a process: whether it lives and is ready, how many
// calls it answers and how fast, which call went where, and what it keeps. Each process has
// one [Process], which the roles in it share; its handler answers /livez, /readyz and
// /metrics on a listener of its own.
//
//	role -> Door -> counters, access log, trace
//	stores, directory, moves, ledger -> collectors, read when somebody asks
//
// It never decides anything: a call is answered the same whether anybody looks or not, and a
// log or a collector that can't keep up loses lines, never calls. It puts no company, user or
// app into a label of a metric, since each value of a label is kept for ever, and no query,
// token or body into a log.
package observe
