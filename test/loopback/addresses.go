package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreeAddresses are n addresses that nobody listens at, and that no other test is given until this
// one ends, though nobody may listen at them for a while. They lie below the ports that
// systems give to outgoing connections: a process that is down must find its own again, and
// a client that tries to reach it must not meet itself.
func FreeAddresses(t *testing.T, n int) []string {
	t.Helper()
	const lowest, highest = 10_000, 30_000
	var found []string
	for try := 0; len(found) < n; try++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.N(highest-lowest)))
		if err != nil {
			if try > 1000 {
				t.Fatal(err)
			}
			continue
		}
		defer l.Close() // all are held until all are found
		// Whoever holds the same port of UDP, where nobody listens, has claimed it: other tests of
		// this process and of others see that.
		claim, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = claim.Close() })
		found = append(found, l.Addr().String())
	}
	return found
}
