package webhook

import (
	"encoding/json"
	"math"
	"testing"
)

func TestDelayOf(t *testing.T) {
	for answer, want := range map[string]int64{ // -1 is a mistake that the operator sees
		``: 0, `ok`: 0, `{}`: 0, `[]`: 0, `null`: 0, `"delay_seconds"`: 0, `{"delay_seconds":null}`: 0, `{"Delay_Seconds":5}`: 0, `{"delay_seconds":5} x`: 0,
		`{"delay_seconds":0}`: 0, `{"delay_seconds":600}`: 600, ` {"a":1, "delay_seconds" : 600 }`: 600, `{"delay_seconds":9223372036854775807}`: math.MaxInt64,
		`{"delay_seconds":99999999999999999999999}`: math.MaxInt64,
		`{"delay_seconds":-1}`:                      -1, `{"delay_seconds":"600"}`: -1, `{"delay_seconds":1.5}`: -1, `{"delay_seconds":1e3}`: -1, `{"delay_seconds":true}`: -1,
		`{"delay_seconds":{}}`: -1, `{"delay_seconds":-99999999999999999999999}`: -1,
	} {
		seconds, err := delayOf([]byte(answer))
		if err != nil {
			seconds = -1
		}
		if seconds != want {
			t.Errorf("%s: %d %v, want %d", answer, seconds, err, want)
		}
	}
}

func FuzzDelayOf(f *testing.F) {
	for _, answer := range []string{`{"delay_seconds":600}`, `{"delay_seconds":"x"}`, `[{"delay_seconds":1}]`, `{"delay_seconds":99999999999999999999}`, `{`, ``} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		seconds, err := delayOf(answer)
		if seconds < 0 || err != nil && seconds != 0 {
			t.Errorf("%q: %d %v", answer, seconds, err)
		}
		if seconds > 0 && !json.Valid(answer) {
			t.Errorf("%q isn't JSON, and delays by %d", answer, seconds)
		}
	})
}
