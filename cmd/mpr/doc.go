// Command mpr is the multi-region front door of an API: `mpr dev` runs all of it in one
// process, the role commands run its parts, and the others administrate it through the
// admin API. Each command is one file; none decides anything that a package beside it
// decides already.
package main
