// Command ledger measures what the ledger costs a gateway: CPU time per call of a gateway
// that counts every call, over that of one that counts none, in the same run.
//
// Both gateways are processes of their own on one core; the load, the directory's server and
// a region that answers 1 KB run on the other. Every call comes through the legacy door,
// where each is counted: the dearest case, since calls of compliant clients aren't counted.
// Rounds take turns, so that what else the machine does hits both. Where that is much, their
// ratio says little, so the second gateway is profiled as well: how much of its CPU time the
// ledger's own code takes doesn't depend on what else the machine does.
package main
