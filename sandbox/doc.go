// Package sandbox refreshes an environment from another one: the monthly sandbox from
// production. A copy of the companies whose administrators want one, and of all users and
// apps, is made beside the copy that serves, as its next generation; then one
// compare-and-set of the environment's [State] makes it the one that serves. Whatever dies
// before that leaves the previous copy serving, and the next refresh begins a generation
// of its own.
//
// It reads the original through the internal listeners of its regions and its login
// service, company by company, and never writes there. Which stores and buckets a
// generation has, and how processes go over to it, it doesn't know.
package sandbox
