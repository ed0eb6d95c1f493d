package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mpr/company"
	"mpr/limit"
	"mpr/observe"
	"mpr/rules"
)

// unlimited counts no calls, and says what it would.
type unlimited struct{}

func (unlimited) Take(context.Context, string) limit.Verdict {
	return limit.Verdict{Limited: true, Limit: 20_000, Remaining: 19_999, Reset: 1_900_000_000}
}

// served is a gateway with all that sees calls, before an upstream that costs nothing, and a
// client of it that doesn't either.
type served struct {
	conn    net.Conn
	request []byte
	answer  []byte
}

func serveOne(t testing.TB) *served {
	t.Helper()
	process, err := observe.New(observe.Options{Role: "gateway"})
	must(t, err)
	closeLater(t, process)
	g := start(t, handlers{}, func(o *Options) {
		o.Limiter = unlimited{}
		o.Doors = map[rules.Door]*observe.Door{rules.DoorAPI: process.Door("gateway", "production", "api")}
	})
	must(t, g.directory.PutRegion(t.Context(), company.RegionInfo{Code: "EU01", Number: numbers["EU01"], Upstreams: []string{canned(t)}}))
	for begun := time.Now(); ; {
		if _, ok := g.replica.Region("EU01"); ok {
			break
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal("the region doesn't come")
		}
	}
	conn, err := net.Dial("tcp", g.api.Listener.Addr().String())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &served{conn: conn, answer: make([]byte, 8<<10), request: fmt.Appendf(nil,
		"GET /rest/v1.0/projects/7 HTTP/1.1\r\nHost: api.procore.com\r\nUser-Agent: bench\r\nAccept: */*\r\nProcore-Company-Id: %d\r\nAuthorization: Bearer %s\r\n\r\n", inEU01, g.user)}
}

// canned answers every request with 1 KB.
func canned(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nServer: canned\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for buf := make([]byte, 8<<10); ; { // a request comes as one piece
					if _, err := conn.Read(buf); err != nil {
						return
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// call makes a call.
func (s *served) call(t testing.TB) {
	if _, err := s.conn.Write(s.request); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; {
		m, err := s.conn.Read(s.answer[n:])
		n += m
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(s.answer[:n], []byte("\r\n\r\n")); at > 0 && n == at+4+1024 {
			if !bytes.HasPrefix(s.answer, []byte("HTTP/1.1 200 ")) {
				t.Fatalf("%s", s.answer[:n])
			}
			return
		}
	}
}

// Whoever adds an allocation to the way of a call says why here.
func TestCallAllocations(t *testing.T) {
	const most = 10
	s := serveOne(t)
	s.call(t)
	if n := testing.AllocsPerRun(500, func() { s.call(t) }); n > most {
		t.Errorf("a call allocates %.0f times, more than %d", n, most)
	} else {
		t.Logf("a call allocates %.0f times", n)
	}
}

// BenchmarkCall is a whole call, with a client and an upstream that cost little.
func BenchmarkCall(b *testing.B) {
	s := serveOne(b)
	s.call(b)
	b.ReportAllocs()
	for b.Loop() {
		s.call(b)
	}
}
