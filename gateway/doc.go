// Package gateway is the API gateway: it answers the api and the legacy door of one
// environment by sending each call to the region that holds the company's data.
//
//	request target -> access token -> limits of the app -> rules -> region (with the epoch) -> answer
//
// The token is verified with public keys alone, package rules decides, and the replica
// of the directory says where a company lives, so that a call needs no other service
// than its region. A region that doesn't own the company answers 421; the gateway then
// asks the rules again and sends the call to the newer placement, once.
//
// Bodies stream in both directions and are never held, but for the first 64 KiB of a
// request's, which may have to be sent a second time; one that says it is no larger is read
// before the call takes up anything of its region. There is no limit on how long a call takes,
// only on how long it may make no progress, and on how much of a region one app takes up.
//
// Which of a region's upstreams gets a call is up to its fleet, which goes by what became of
// the calls before; regions share nothing.
//
// The gateway keeps nothing that it can't rebuild, decides nothing that the seed says
// (package rules does), never repeats a call that may have had an effect, and never
// follows a redirect, opens a compressed body or changes a path.
//
// It needs request ids from problem.Handler, a replica and public keys that have been
// loaded once, and a server without limits on the whole request or answer
// (http.Server.ReadTimeout, WriteTimeout), which would cut off large bodies.
package gateway
