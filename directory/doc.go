// Package directory keeps the placements of an environment (which company lives where,
// at which epoch), its regions and its campaign in JetStream key-value buckets, and carries the
// regions' changes to the global index. Every change of a placement is a
// compare-and-set. Readers hold a [Replica]: a copy in memory, fed by a watch and
// written to disk now and then, that answers without the directory.
//
// It decides nothing about placements; that is for control and moves. It has no
// consensus or replication of its own: NATS does that.
package directory
