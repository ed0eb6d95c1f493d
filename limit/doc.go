// Package limit counts the calls of each app in two windows, an hour and the ten seconds
// of a spike, and says which calls are too many: exactly, over any number of gateways.
//
//	call -> Limiter.Take -> its share of what is left -> allowed or refused, and what the headers say
//	                             ^ counts of the other gateways, by NATS
//	operator -> Settings (bucket) -> Table of each gateway, with a copy on disk
//
// Each gateway owns a share of what an app has left in a window and counts calls against
// it, in memory. A gateway whose share is used up tells the others what it has counted and
// waits, for milliseconds, until each has answered with its own counts: from then on they
// divide what is left anew, among those that have calls of the app. Since a share grows only
// after all others know what was used, all shares together are never more than the limit;
// and since gateways without calls give theirs back, nothing of it lies idle. What is left
// to chance is a few calls where fewer are left than there are gateways.
//
// A gateway that can't hear the others counts against a fixed share, the limit divided by
// the number of gateways that it last knew. Counts are absolute numbers of one gateway and
// one window: a message that is lost is made up for by the next, one that is repeated
// changes nothing.
//
// The package never waits for the directory or for another process longer than a fraction
// of a second, keeps counts in memory only, refuses no call that it has no room to count,
// and knows nothing of HTTP, tokens and rules.
package limit
