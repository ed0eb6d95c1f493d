package directory

import (
	"math/rand/v2"
	"testing"

	"mpr/company"
)

// Lookups among a million companies, in no order: what they cost is mostly reading the memory.
func BenchmarkPlacement(b *testing.B) {
	const companies = 1_000_000
	r := openUnfollowed(nil)
	for id := company.ID(1); id <= companies; id++ {
		r.Learn(place(id, "US01", 1))
	}
	ids := make([]company.ID, 1<<16)
	for i := range ids {
		ids[i] = 1 + company.ID(rand.Int64N(companies)) //nolint:gosec // no secret
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, ok := r.Placement(ids[i%len(ids)]); !ok {
			b.Fatal("a company is missing")
		}
	}
}
