// Package structure holds the repository to its own rules: who may import whom and why,
// a package comment in each doc.go, names that say something, links that lead somewhere,
// documented commands that exist. It reads the sources and documents; it tests no
// behaviour.
package structure
