// Package faults breaks a whole system while companies move in it, and looks at what is left.
// Each role is a process of its own, and so is the directory's server; they are killed,
// cut off from one another, told everything twice and late, and given clocks that jump, at
// every step of the protocol of moves. Then there must be one owner of each company, each
// write that was answered must be there once, and nobody who doesn't own a company may have
// answered for it.
//
// The processes are this test's own binary, with the race detector, so that movers can be
// made to wait at their steps and clocks can be set. It tests no single package: those have
// tests of their own.
package faults
