// Package token is about access tokens: minting them with a ring of signing keys,
// verifying them from public keys alone, and knowing which grants have been revoked.
// Public keys and revocations reach verifiers through JetStream buckets and are kept in
// a copy on disk, so that a verifier starts and goes on without anybody else.
//
// It never issues a token on its own decision (package login does), never talks to the
// identity store, and accepts no algorithm that isn't in its short list.
package token
