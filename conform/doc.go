// Package conform holds a region to its contract (docs/region-contract.md), whoever has
// built it and in whatever language. [Run] plays the other region and the directory from
// memory: it has a company leave the region under test and come back, several times and in
// all the ways that a move does, repeats what may be repeated, sends what must be refused,
// and computes the digests itself. Each [Check] quotes the sentence that it checks.
//
// It calls a region as a stranger would: it shares no code with the mover and with our
// region, since a mistake in what is shared would be in both and be found by neither. It
// decides nothing about who owns a company outside of the region under test: no directory
// hears of what it does, so it is for a throwaway company. Whatever happens it tries to
// bring the company back into service at the end.
package conform
