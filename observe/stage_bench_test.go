package observe

import (
	"net/http"
	"testing"
	"time"
)

func BenchmarkDone(b *testing.B) {
	p, err := New(Options{Role: "gateway"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() })
	d := p.Door("gateway", "production", "api")
	b.ReportAllocs()
	for b.Loop() {
		d.Begin()
		d.Done(&Call{Began: time.Now(), Method: http.MethodGet, Status: http.StatusOK, Region: "EU01"})
	}
}
