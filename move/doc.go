// Package move takes companies from one region to another while they are in use, and no
// write is lost. A mover copies the rows from the source to the destination, then the
// changes since, compares both sides, has gateways hold the company's calls for a moment,
// freezes the source, brings what is left, and commits by one compare-and-set of the
// placement, under the next epoch. Any number of movers work on a queue in a database;
// whatever dies, another one goes on, since each step may be repeated.
//
// It reaches regions by their contract and the directory through a small interface. It
// never decides who owns a company: the placement's compare-and-set and the regions' fences
// do, and they refuse a mover that has been replaced.
package move
