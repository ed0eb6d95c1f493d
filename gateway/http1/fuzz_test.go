package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
)

// What we take for a request net/http takes for the same one.
func FuzzRequestHead(f *testing.F) {
	for _, c := range corpus {
		f.Add(c.request)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		in := reader{from: strings.NewReader(raw), buf: make([]byte, 64)}
		head, err := in.head(8<<10, nil)
		var q requestHead
		if err == nil {
			err = q.read(string(head))
		}
		if err != nil {
			return // refusing more is no harm; the corpus says what must be taken
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			t.Fatalf("we take %q, which net/http refuses: %v", raw, err)
		}
		if q.method != r.Method || q.target != r.RequestURI || q.host != r.Host || q.minor != r.ProtoMinor || q.url.Path != r.URL.Path || q.url.RawQuery != r.URL.RawQuery {
			t.Errorf("%q: %q %q %q %+v, net/http has %q %q %q %+v", raw, q.method, q.target, q.host, q.url, r.Method, r.RequestURI, r.Host, *r.URL)
		}
		if q.chunked != slices.Contains(r.TransferEncoding, "chunked") || !q.chunked && max(q.length, 0) != r.ContentLength {
			t.Errorf("%q: a body of %d, chunked %t; net/http has %d, %v", raw, q.length, q.chunked, r.ContentLength, r.TransferEncoding)
		}
		if q.keepAlive == r.Close {
			t.Errorf("%q: kept %t, net/http closes %t", raw, q.keepAlive, r.Close)
		}
		sameHeader(t, raw, q.header, r.Header)
	})
}

// sameHeader compares a header with what net/http made of it.
func sameHeader(t *testing.T, raw string, ours, theirs http.Header) {
	t.Helper()
	theirs = maps.Clone(theirs)
	delete(theirs, "Trailer") // which we take off also where there is no place for trailers
	if ours.Get("Pragma") == "no-cache" && len(ours["Cache-Control"]) == 0 {
		delete(theirs, "Cache-Control") // net/http adds it
	}
	if !maps.EqualFunc(ours, theirs, slices.Equal) {
		t.Errorf("%q: %v, net/http has %v", raw, ours, theirs)
	}
}

// What we take for an answer net/http takes for the same one.
func FuzzResponseHead(f *testing.F) {
	for _, c := range answers {
		f.Add(c.answer)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		in := reader{from: strings.NewReader(raw), buf: make([]byte, 64)}
		head, err := in.head(8<<10, nil)
		r := Response{conn: &ClientConn{}}
		if err == nil {
			err = r.read(string(head), nil)
		}
		if err != nil {
			return
		}
		q := &Request{Method: http.MethodGet}
		r.frame(q)
		theirs, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), &http.Request{Method: http.MethodGet})
		if err != nil {
			t.Fatalf("we take %q, which net/http refuses: %v", raw, err)
		}
		defer theirs.Body.Close()
		if r.StatusCode != theirs.StatusCode {
			t.Errorf("%q: %d, net/http has %d", raw, r.StatusCode, theirs.StatusCode)
		}
		if r.StatusCode >= 200 && r.StatusCode != http.StatusNoContent && r.Length != theirs.ContentLength {
			t.Errorf("%q: a body of %d, net/http has %d", raw, r.Length, theirs.ContentLength)
		}
		if r.keep && theirs.Close {
			t.Errorf("%q: kept, net/http closes", raw)
		}
		sameHeader(t, raw, r.Header, theirs.Header)
	})
}

// What we read of a chunked body, net/http reads as well, and the end is where it is.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nmore", "5\r\nhello0\r\n\r\n", "5\nhello\n0\n\n", "fffffffffffffffff\r\n", "-1\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n",
	} {
		f.Add(s, 7)
	}
	f.Fuzz(func(t *testing.T, raw string, size int) {
		in := reader{from: strings.NewReader(raw), buf: make([]byte, 4<<10)}
		var c chunked
		c.reset(&in, http.Header{}, true)
		var ours []byte
		for p := make([]byte, 1+max(size, -size)%100); ; {
			n, err := c.Read(p)
			ours = append(ours, p[:n]...)
			if err == nil {
				continue
			}
			if !errors.Is(err, io.EOF) {
				return
			}
			break
		}
		from := bufio.NewReader(strings.NewReader(raw))
		theirs, err := io.ReadAll(httputil.NewChunkedReader(from))
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Errorf("%q: we read %q, net/http %q, %v", raw, ours, theirs, err)
		}
	})
}

// Nothing that is sent can be taken for more than one field.
func FuzzAppendField(f *testing.F) {
	f.Add("X-A", "b\r\nX-B: c")
	f.Add("X A\r\n", "\x00")
	f.Fuzz(func(t *testing.T, name, value string) {
		b := AppendField(nil, name, value)
		if len(b) > 0 && (bytes.Count(b, []byte("\n")) != 1 || bytes.Count(b, []byte("\r")) != 1 || bytes.IndexByte(b, 0) >= 0 || !bytes.HasSuffix(b, []byte("\r\n"))) {
			t.Errorf("%q: %q becomes %q", name, value, b)
		}
	})
}
