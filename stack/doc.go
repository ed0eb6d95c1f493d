// Package stack turns a configuration into running roles: it opens the listeners, the
// stores and the directory, builds login, gateway, regions and control, wires them to
// one another and ends them in the right order. `mpr dev`, the role commands and the
// tests all use it; it is the only package that knows every role.
//
// It holds no rule and answers no request of its own, but for the development
// listeners: TLS for the seed's host names, and a proxy that sends programs with
// hard-coded hosts there.
package stack
