// Command directory measures the directory at the size that it is told: how fast placements are
// loaded, what a replica takes of memory, how long a gateway takes to start, how long a change of
// a placement takes to the last of several replicas, and what a lookup costs.
//
// Control, login service and gateways are processes of the built binary on real configuration;
// placements are loaded into control's embedded server by [directory.Load], and changed by
// compare-and-set. Replicas whose insides are measured are processes of this program.
//
// It fails where a replica doesn't come to hold what the directory has. It never judges a figure:
// docs/benchmarks.md has them, with the machine that they are of.
package main
