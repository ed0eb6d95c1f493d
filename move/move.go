package move

import (
	"time"

	"mpr/company"
)

// Phase is how far a move is.
type Phase string

// The phases, in their order. Up to Cutting a move can be aborted; from Committed on it can
// only go on.
const (
	// Queued waits for its turn: there is a limit of moves at the same time for each region.
	Queued Phase = "queued"
	// Copying brings the rows.
	Copying Phase = "copying"
	// Following brings the changes since, and compares both sides.
	Following Phase = "following"
	// Ready follows on, and waits for the time of the change-over.
	Ready Phase = "ready"
	// Cutting holds calls, freezes the source and commits.
	Cutting Phase = "cutting over"
	// Committed has the destination own the company, and the source know of it.
	Committed Phase = "committed"
	// Retained is over for the company; the source keeps its rows for a while.
	Retained Phase = "retained"
	// Purging deletes them.
	Purging Phase = "purging"
	Done    Phase = "done"
	// Aborting gives the move up.
	Aborting Phase = "aborting"
	Aborted  Phase = "aborted"
)

// Over says whether the company's part in the move is over.
func (p Phase) Over() bool {
	switch p {
	case Retained, Purging, Done, Aborted:
		return true
	}
	return false
}

// Request asks for a move.
type Request struct {
	Company company.ID     `json:"company"`
	To      company.Region `json:"to"`
	// By says who asks.
	By string `json:"by"`
	// NotBefore and NotAfter bound the time of the change-over; the zero time doesn't.
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	// Rate is how many rows are copied each second at the most; 0 for no limit.
	Rate int `json:"rate,omitempty"`
}

// Move is a move as it stands.
type Move struct {
	ID          string         `json:"id"`
	Environment string         `json:"environment"`
	Company     company.ID     `json:"company"`
	From        company.Region `json:"from"`
	To          company.Region `json:"to"`
	Phase       Phase          `json:"phase"`
	Paused      bool           `json:"paused"`
	Aborting    bool           `json:"aborting"`
	// Leaving says that the destination is lost: the move is given up without a word from it.
	Leaving bool `json:"leaving,omitempty"`
	// Undelayed says that an operator has dropped the delays of apps, Delays what apps have asked
	// for, the longest first.
	Undelayed bool    `json:"undelayed,omitempty"`
	Delays    []Delay `json:"delays,omitempty"`
	Details

	turn int64
	wake time.Time
}

// Details are what is kept of a move besides.
type Details struct {
	Request
	// Requested, Started, Committed and Ended are when it was asked for, when the copying
	// began, and when the company changed over; Ended is when all was over.
	Requested time.Time `json:"requested"`
	Started   time.Time `json:"started,omitzero"`
	Committed time.Time `json:"committed,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
	// Epoch is the company's at the source.
	Epoch company.Epoch `json:"epoch"`
	// Rows counts those at the source when the copying began, Copied those that have come.
	Rows   int64 `json:"rows"`
	Copied int64 `json:"copied"`
	// Bytes is about how many of them the destination needs room for.
	Bytes int64 `json:"bytes,omitempty"`
	// Reused says that the destination still had the rows, and only changes were brought.
	Reused bool `json:"reused,omitempty"`
	// Lag is how many changes the destination is behind.
	Lag int64 `json:"lag"`
	// Verified is the version at which both sides were compared as a whole, Compared the one at
	// which all that was changed since was compared, and Final the one of the change-over.
	Verified int64 `json:"verified,omitempty"`
	Compared int64 `json:"compared,omitempty"`
	Final    int64 `json:"final,omitempty"`
	// Checksums are those at Verified, by table.
	Checksums map[string]Sum `json:"checksums,omitempty"`
	// Gateways are those that were there at the change-over, and Held those that said that they
	// hold the company's calls.
	Gateways int `json:"gateways,omitempty"`
	Held     int `json:"held,omitempty"`
	// Pause is how long nobody owned the company at the change-over.
	Pause time.Duration `json:"pause_ns,omitempty"`
	// Froze says that the source may have been asked to freeze, and wasn't thawed since.
	Froze bool `json:"froze,omitempty"`
	// Attempts counts change-overs that failed and were undone.
	Attempts int `json:"attempts,omitempty"`
	// Problem is why the move doesn't go on; it is tried again.
	Problem string `json:"problem,omitempty"`
	Retries int    `json:"retries,omitempty"`
	// Why is why the move was given up.
	Why string `json:"why,omitempty"`
	// Reason is why the move was given up, in a word.
	Reason Reason `json:"reason,omitempty"`
	// RetainedUntil is how long the source keeps the rows.
	RetainedUntil time.Time `json:"retained_until,omitzero"`
	Purged        int64     `json:"purged,omitempty"`
}

// Sum is what is compared of a table: the number of rows, and the sum of their digests.
type Sum struct {
	Rows int64  `json:"rows"`
	Sum  string `json:"sum"`
}

// Event is what became of a move.
type Event struct {
	// N counts the events of a move, from 1.
	N     int64     `json:"n"`
	At    time.Time `json:"at"`
	Phase Phase     `json:"phase"`
	Note  string    `json:"note"`
}
