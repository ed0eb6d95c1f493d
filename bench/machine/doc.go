// Package machine is what all measurements share: processes of the built binary and of others,
// what those take of processors and memory, addresses for them, and what the machine is.
//
// It measures nothing by itself, and judges nothing.
package machine
