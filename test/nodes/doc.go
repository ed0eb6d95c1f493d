// Package nodes runs NATS servers as processes of a test: alone, as a cluster of three, or as a
// leaf node, each with a store of its own, to be killed and started again as machines are. The
// processes are the test's own binary, whose TestMain calls [Serve] first. It knows nothing of
// what the servers are used for.
package nodes
