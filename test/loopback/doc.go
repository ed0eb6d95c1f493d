// Package loopback finds addresses for the processes that tests start. It never starts one, and
// never holds on to an address.
package loopback
