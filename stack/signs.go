package stack

import (
	"encoding/json"
	"log/slog"
	"os"
	"time"

	"mpr/control"
	"mpr/observe"
	"mpr/rules"
)

// sayings answers what a gateway tells of itself with each sign of life.
func (s *system) sayings(ed *edition, address string, doors map[rules.Door]*observe.Door) func() []byte {
	host, err := os.Hostname()
	if err != nil {
		slog.Warn("this machine has no name", "error", err)
	}
	recent := observe.NewRecent(doors[rules.DoorAPI], doors[rules.DoorLegacy])
	started := time.Now().UTC()
	return func() []byte {
		said, err := json.Marshal(control.GatewaySays{
			Host: host, Address: address, Started: started, AgeMillis: ed.replica.Age().Milliseconds(), Companies: ed.replica.Len(),
			Figures: recent.Tick(time.Now()),
		})
		if err != nil {
			slog.Warn("a gateway can't tell of itself", "error", err)
		}
		return said
	}
}
