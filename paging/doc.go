// Package paging is about lists that are answered in parts: the parameters page and
// per_page, and the headers Total, Per-Page and Link. All lists of the API have them, so
// clients see no difference between the roles that answer.
//
// It reads no store, and knows nothing of what is listed.
package paging
