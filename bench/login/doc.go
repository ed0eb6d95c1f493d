// Command login measures the login service: token requests a second for client credentials and for
// refresh, how long they take, and what they cost, with clients that send the next request when
// they have the answer of the last. The control role and the login service are processes of the
// built binary, on SQLite or, with --postgres, on PostgreSQL. With --hydra the same is asked of
// ory/hydra on the same PostgreSQL, in rounds that take turns with ours.
//
// What signing in costs, which is mostly hashing a password, it tells apart: once for each chain of
// refreshes. It changes nothing, and fails where a request fails.
package main
