// Package config reads mpr.yaml: one file, typed, strict. Every value has a default
// that makes `mpr dev` the seed's system; unknown fields are refused; all mistakes are
// told at once, each with the place where it stands.
//
// It opens nothing and starts nothing: it only says what the operator wants.
package config
