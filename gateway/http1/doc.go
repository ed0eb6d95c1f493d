// Package http1 speaks HTTP/1.1 (RFC 9112) on both sides of the gateway: [Server] takes requests
// of clients and has them handled by an [net/http.Handler], [Client] sends requests to one
// upstream.
//
// It is there because of what a call costs. One goroutine serves a connection: it parses a request
// where it lies in the connection's buffer, and its handler sends it on and reads the answer by
// the same goroutine; nothing is handed over. Requests, headers and buffers are used again for the
// next request, deadlines cost a store (see [Watch]), and head and body of a small message leave by
// one system call.
//
// It is a boundary: what net/http or nginx refuse is refused, on either side, and nothing is
// mended on its way. See requestHead and the tests, which compare.
//
// It never speaks HTTP/2 (connections whose clients want that go to net/http), never follows a
// redirect, opens a compressed body, guesses a Content-Type or sends a request twice that may have
// had an effect.
package http1
