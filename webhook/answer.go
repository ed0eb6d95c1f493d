package webhook

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
)

// maxAnswer is how much is read of an answer, in bytes.
const maxAnswer = 64 << 10

// errDelay says that an app has asked for something that isn't a delay.
var errDelay = errors.New("delay_seconds must be a whole number from 0 on: no delay was granted")

// delayOf reads by how many seconds an app wants a change-over to be delayed: {"delay_seconds":
// 600}; 0 is not at all. Answers that say something else, or nothing, are none of our business.
func delayOf(answer []byte) (seconds int64, err error) {
	var members map[string]json.RawMessage // the names of a struct's fields would match in any case
	if len(answer) == 0 || json.Unmarshal(answer, &members) != nil {
		return 0, nil
	}
	said, ok := members["delay_seconds"]
	if !ok || string(said) == "null" {
		return 0, nil
	}
	seconds, err = strconv.ParseInt(string(said), 10, 64)
	if errors.Is(err, strconv.ErrRange) && seconds == math.MaxInt64 {
		return seconds, nil // it will be cut
	}
	if err != nil || seconds < 0 {
		return 0, errDelay
	}
	return seconds, nil
}
