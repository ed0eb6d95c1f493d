// Package company holds the words that every other package shares: a company's
// [ID], the [Region] it lives in, the [Epoch] of its placement and the
// [Placement] itself.
//
// It does no I/O, knows no clock and imports nothing of ours. The types exist so
// that a company's id, a region's number and an epoch, three integers that would
// otherwise be easy to confuse, can't be passed for one another.
package company
