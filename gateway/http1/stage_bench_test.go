package http1

import (
	"net/http"
	"strings"
	"testing"
)

// What a call costs in this package, by stages; those elsewhere are in the packages that do them.

var (
	benchRequest = "GET /rest/v1.0/projects/7 HTTP/1.1\r\nHost: api.procore.com\r\nUser-Agent: bench\r\nAccept: */*\r\nProcore-Company-Id: 4711\r\nAuthorization: Bearer " + strings.Repeat("x", 700) + "\r\n\r\n"
	benchAnswer  = "HTTP/1.1 200 OK\r\nServer: canned\r\nDate: Mon, 01 Jul 2019 00:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n"
)

func BenchmarkRequestHead(b *testing.B) {
	var q requestHead
	b.ReportAllocs()
	for b.Loop() {
		if err := q.read(benchRequest); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAnswerHead(b *testing.B) {
	var r Response
	b.ReportAllocs()
	for b.Loop() {
		if err := r.read(benchAnswer, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendHeader(b *testing.B) {
	h := http.Header{"Content-Type": {"application/json"}, "Server": {"canned"}, "X-Rate-Limit-Limit": {"3600"}, "X-Rate-Limit-Remaining": {"3599"}, "X-Rate-Limit-Reset": {"1900000000"}}
	out := make([]byte, 0, writeBuffer)
	b.ReportAllocs()
	for b.Loop() {
		out = appendHeader(appendStatus(out[:0], http.StatusOK), h, leftOut)
	}
}
