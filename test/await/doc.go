// Package await has tests wait for what other goroutines and processes are about to do. It looks
// again and again, and never waits for a time.
package await
