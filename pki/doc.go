// Package pki makes certificates and serves those that operators bring: a CA of one's own and
// what it signs, pairs of files that are read again when they change, and TLS on which both
// sides show who they are.
//
// A certificate names the roles that its process may play, as URIs such as mpr://gateway, and
// the hosts that it answers for. Keys are ECDSA on P-256. A CA of ours signs what is asked of it
// on the machine where its key is: nothing here takes requests from a network, and nothing
// revokes. Certificates live for days, and are renewed ([Authority.Issue]); who has lost a key
// waits until they end, or makes a new CA.
package pki
