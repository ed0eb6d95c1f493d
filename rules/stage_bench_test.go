package rules_test

import (
	"testing"

	"mpr/rules"
)

func BenchmarkDecide(b *testing.B) {
	policy := rules.Seed()
	call := rules.Call{Door: rules.DoorAPI, Method: "GET", Path: "/rest/v1.0/projects/7", Header: header(newInEU), Token: rules.UserToken, Now: during}
	b.ReportAllocs()
	for b.Loop() {
		if d := policy.Decide(call, placements); d.Action != rules.Forward {
			b.Fatal(d)
		}
	}
}
