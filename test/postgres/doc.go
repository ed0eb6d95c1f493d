// Package postgres runs PostgreSQL servers that belong to one test, which may kill them and
// start them again. The servers listen on a socket in a folder of their own; the system's
// cluster is never touched. It needs Debian's initdb and postgres, and skips tests without.
package postgres
