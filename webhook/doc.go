// Package webhook tells apps what happens to their companies: signed HTTP requests to a URL of
// the app, in the format of the Standard Webhooks specification, at least once. It takes the
// notices of moves from the queue, asks the login service which apps of the company have a
// webhook, keeps a delivery for each of them in the control role's database, and sends until
// the app has answered or two days are over. Any number of processes may do so side by side;
// what one of them leaves behind the next one takes up.
//
// It never decides how a move goes on: what an app asks for in its answer is handed to the
// queue. It stores no secret, follows no redirect, uses no proxy, and connects to no address
// within a private network unless the configuration allows it.
package webhook
