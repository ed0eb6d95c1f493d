// Package region is a region: the resources of the companies that live in it, the fence
// that says which companies these are and at which epoch, and the change log that the
// global index is fed from.
//
// A call passes call.go (token, company header, epoch, fence, membership, installation)
// and then one function of its resource's file. A write passes write.go: one transaction
// that takes the fence, changes the data and appends to the change log, so that no write
// can slip past a freeze and none goes unnoticed.
//
// It never asks another process who may do what, but for the id of a person whom it
// doesn't know yet; and it never answers for a company that its fence doesn't own.
package region
