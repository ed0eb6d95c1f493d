// Package console is the pages of the control role: the operators' console below /console/, where
// the whole system is seen and steered, and the developers' portal below /developers/, where
// somebody who makes apps sees what to fix.
//
//	browser -> page -> control.Client, which asks in this process as whoever has signed in
//
// Pages are rendered here, charts included, and work without scripts; with the one script that
// there is, parts of a page are sent again when they change (server-sent events, at the page's own
// address).
//
// It decides nothing and keeps nothing: what a page shows and does is what the admin API answers
// whoever has signed in, by the same table of roles and with the same audit log. So there is
// nothing on a page that a command can't do as well. It sees no password; a client secret passes
// through it once, into the page that follows its making.
package console
