package token

import "testing"

// A token that is remembered, and one that isn't.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b, "ES256")
	raw := w.sign(b, w.claims())
	for name, remembered := range map[string]int{"remembered": 100, "new": 0} {
		b.Run(name, func(b *testing.B) {
			v := NewVerifier(issuer, w.follower, remembered, w.clock.now)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
