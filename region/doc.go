// Package region is a region: the resources of the companies that live in it, the fence
// that says which companies these are and at which epoch, and the change log that the
// global index is fed from and a move copies from.
//
// A call passes call.go (token, company header, fence, membership, installation, named
// companies) and then one function of its resource's file. A write passes write.go: one
// transaction that takes the fence's row, changes rows of the tables in tables.go, and
// appends each changed row to the change log under the company's next version; no write
// can slip past a freeze, and none goes unnoticed. pump.go publishes what the index wants.
//
// It never asks another process who may do what, but for the id of a person whom it
// doesn't know yet; and it never answers for a company that its fence doesn't own.
package region
