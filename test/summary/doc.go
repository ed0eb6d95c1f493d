// Command summary reads the output of "go test -json" and prints what a person wants to
// know of it: a line for each package, the whole output of each test that failed, why
// tests were skipped, and, last, how many passed, failed and were skipped. It exits 1
// where a test or a package failed and, with CI=true, where a test was skipped.
package main
