package limit

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Gateways tell one another what they have counted, in messages on one subject of the
// environment that all of them hear.

// word says what a message is about.
type word string

const (
	// counts tells what has changed; without apps it is a sign of life.
	counts word = "counts"
	// ask tells what the sender has counted of one app, wants a share of what is left, and
	// asks all others to answer.
	ask word = "ask"
	// answer tells the one who asked, and whoever else hears it, what the sender has counted.
	answer word = "answer"
	// hello asks all others to tell all that they have counted.
	hello word = "hello"
	// bye says that the sender counts no more.
	bye word = "bye"
)

type message struct {
	From string `json:"from"`
	Word word   `json:"word"`
	// To and Ask say whose question an answer is to.
	To   string  `json:"to,omitempty"`
	Ask  uint64  `json:"ask,omitempty"`
	Apps []entry `json:"apps,omitempty"`
}

// entry is what a gateway has counted of an app: the number of a window and of calls in it,
// for each window.
type entry struct {
	Client string   `json:"c"`
	Hour   [2]int64 `json:"h"`
	Spike  [2]int64 `json:"s"`
	// Wants says that the gateway has calls of the app, and a share of what is left.
	Wants bool `json:"w,omitempty"`
	// Of is whose counts these are, where they are those of a gateway that has left.
	Of string `json:"of,omitempty"`
}

func (e *entry) tally(k kind) tally {
	if k == hourly {
		return tally{e.Hour[0], e.Hour[1]}
	}
	return tally{e.Spike[0], e.Spike[1]}
}

const (
	// maxMessage and maxEntries bound what is read of a message, and what is put into one.
	maxMessage = 512 << 10
	maxEntries = 500
	// maxName bounds the names of apps and gateways.
	maxName = 256
)

var errMessage = errors.New("not a message of a gateway")

// readMessage reads a message; whatever isn't one is an error.
func readMessage(data []byte) (message, error) {
	var m message
	if len(data) > maxMessage {
		return m, fmt.Errorf("%w: it has %d bytes", errMessage, len(data))
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%w: %w", errMessage, err)
	}
	if !isName(m.From) || len(m.To) > maxName || len(m.Apps) > maxEntries {
		return m, errMessage
	}
	switch m.Word {
	case counts, hello, bye:
	case ask, answer:
		if len(m.Apps) != 1 || m.Apps[0].Of != "" {
			return m, errMessage
		}
	default:
		return m, errMessage
	}
	for i := range m.Apps {
		e := &m.Apps[i]
		if !isName(e.Client) || len(e.Of) > maxName || !isCount(e.Hour[1]) || !isCount(e.Spike[1]) {
			return m, errMessage
		}
	}
	return m, nil
}

func isName(s string) bool { return s != "" && len(s) <= maxName }

// isCount keeps sums of counts far from the end of an int64.
func isCount(n int64) bool { return n >= 0 && n <= MaxLimit }
