// Package snapshot is how rows of a database travel to another one of the same schema:
// as lines of JSON, a head, a line for each row, and an end that counts the rows and has
// a checksum of their lines. [Serve] answers a request with them, from one state of the
// database; a [Reader] takes them from a request's body, in batches, and wants all to
// have arrived; an [Inserter] writes them. Neither side holds more than a batch.
//
// It knows no table and decides nothing: what is sent, what may be overwritten and what is
// done with a snapshot that breaks off is for the roles.
package snapshot
