package gateway

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpr/problem"
)

// stream is n pseudo-random bytes, made while they are read, and their checksum.
type stream struct {
	left int64
	rng  *rand.ChaCha8
	sum  hash.Hash
}

func newStream(n int64) *stream { return &stream{n, rand.NewChaCha8([32]byte{1}), sha256.New()} }

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, _ := s.rng.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	s.sum.Write(p[:n])
	return n, nil
}

// "Streams request and response bodies of any size without holding them".
func TestLargeBodiesAreNotHeld(t *testing.T) {
	const size, ceiling = 256 << 20, 48 << 20
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Got", fmt.Sprintf("%d %x", n, sum.Sum(nil)))
		if r.URL.Query().Get("length") != "" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		if _, err := io.Copy(w, newStream(size)); err != nil {
			t.Error(err)
		}
	}})
	want := newStream(size)
	if _, err := io.Copy(io.Discard, want); err != nil {
		t.Fatal(err)
	}
	for name, length := range map[string]int64{"lengths": size, "chunks": -1} {
		t.Run(name, func(t *testing.T) {
			peak := watchHeap(t)
			r := request(t, "POST", g.api.URL+"/x?length="+map[bool]string{true: "1"}[length > 0], g.header(inEU01), newStream(size))
			r.ContentLength = length
			resp, err := g.api.Client().Do(r)
			must(t, err)
			defer resp.Body.Close()
			sum := sha256.New()
			n, err := io.Copy(sum, resp.Body)
			must(t, err)
			checksum := fmt.Sprintf("%x", want.sum.Sum(nil))
			if got := resp.Header.Get("Got"); got != fmt.Sprintf("%d %s", size, checksum) {
				t.Errorf("the upstream got %s", got)
			}
			if n != size || fmt.Sprintf("%x", sum.Sum(nil)) != checksum {
				t.Errorf("the client got %d bytes", n)
			}
			if resp.ContentLength != length {
				t.Errorf("Content-Length %d, want %d", resp.ContentLength, length)
			}
			if used := peak(); used > ceiling {
				t.Errorf("%d MB of memory were in use for a body of %d MB", used>>20, size>>20)
			}
		})
	}
}

// watchHeap samples the heap until it is asked for its largest growth.
func watchHeap(t *testing.T) (peak func() int64) {
	t.Helper()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, top := int64(m.HeapAlloc), int64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				runtime.ReadMemStats(&m)
				top = max(top, int64(m.HeapAlloc)-before)
			}
		}
	}()
	return func() int64 { close(stop); <-stopped; return top }
}

// fullDuplex lets an upstream answer before it has read the request's body.
func fullDuplex(w http.ResponseWriter) {
	must2(http.NewResponseController(w).EnableFullDuplex())
}

// mirror answers each line of the request as soon as it has read it.
func mirror(w http.ResponseWriter, r *http.Request) {
	fullDuplex(w)
	control := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	must2(control.Flush())
	for in := bufio.NewScanner(r.Body); in.Scan(); {
		must2(fmt.Fprintf(w, "you said %s\n", in.Text()))
		must2(control.Flush())
	}
}

// The answer comes back while the request is still on its way.
func TestRequestAndAnswerStreamAtOnce(t *testing.T) {
	g := start(t, handlers{"EU01": mirror})
	t.Run("HTTP/1.1", func(t *testing.T) {
		c := g.dial()
		c.head(g, "POST /x", "Procore-Company-Id: "+inEU01.String(), "Transfer-Encoding: chunked")
		resp := c.answer("POST")
		lines := bufio.NewReader(resp.Body)
		for i := range 3 {
			said := fmt.Sprintf("word %d\n", i)
			c.write(fmt.Sprintf("%x\r\n%s\r\n", len(said), said))
			line, err := lines.ReadString('\n')
			must(t, err)
			if line != "you said "+said {
				t.Fatalf("%q", line)
			}
		}
		c.write("0\r\n\r\n")
		if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
			t.Fatalf("%q, %v", rest, err)
		}
		// An answer that started within the request ends the connection: what is left of the
		// request must never be read as the next one.
		if !resp.Close {
			t.Error("the connection is offered for more requests")
		}
		c.ends()
	})
	t.Run("HTTP/2", func(t *testing.T) {
		client, url := g.secure()
		in, out := io.Pipe()
		resp, err := client.Do(request(t, "POST", url+"/x", g.header(inEU01), in))
		must(t, err)
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Fatal(resp.Proto)
		}
		lines := bufio.NewReader(resp.Body)
		for i := range 3 {
			must2(fmt.Fprintf(out, "word %d\n", i))
			line, err := lines.ReadString('\n')
			must(t, err)
			if line != fmt.Sprintf("you said word %d\n", i) {
				t.Fatalf("%q", line)
			}
		}
		must(t, out.Close())
		if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
			t.Fatalf("%q, %v", rest, err)
		}
	})
}

// Server-sent events arrive one by one, and their header before the first.
func TestAnswersAreFlushed(t *testing.T) {
	next := make(chan string)
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", "27")
		}
		w.WriteHeader(http.StatusOK)
		must2(http.NewResponseController(w).Flush())
		for event := range next {
			if event == "" {
				return
			}
			must2(io.WriteString(w, "data: "+event+"\n\n"))
			must2(http.NewResponseController(w).Flush())
		}
	}})
	for _, target := range []string{"/events", "/events?length"} {
		t.Run(target, func(t *testing.T) {
			if strings.HasSuffix(target, "length") {
				// The header of an answer of known length may come with its first bytes.
				go func() { next <- "first" }()
			}
			resp, err := g.api.Client().Do(request(t, "GET", g.api.URL+target, g.header(inEU01), nil))
			must(t, err)
			defer resp.Body.Close()
			lines := bufio.NewReader(resp.Body)
			for i, event := range []string{"first", "second"} {
				if i > 0 || target == "/events" {
					next <- event
				}
				line, err := lines.ReadString('\n')
				must(t, err)
				if line != "data: "+event+"\n" {
					t.Fatalf("%q", line)
				}
				_, err = lines.ReadString('\n')
				must(t, err)
			}
			next <- ""
			_, err = io.ReadAll(lines)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTrailersPassBothWays(t *testing.T) {
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Checksum, Mpr-Secret")
		echo(w, r)
		w.Header().Set("Checksum", "abc")
		w.Header().Set("Mpr-Secret", "x")
		w.Header().Set(http.TrailerPrefix+"Late", "y")
	}})
	check := func(t *testing.T, resp *http.Response) {
		t.Helper()
		content, err := io.ReadAll(resp.Body)
		must(t, err)
		if !strings.Contains(string(content), "trailer X-Sum: 123\r\n") || !strings.HasSuffix(string(content), "\n\nhello") {
			t.Errorf("the upstream got %s", content)
		}
		// RFC 9110 section 6.5.1: what decides about routing can't come as a trailer.
		if strings.Contains(string(content), "999") {
			t.Errorf("a trailer forges a header: %s", content)
		}
		if resp.Trailer.Get("Checksum") != "abc" || resp.Trailer.Get("Late") != "y" || resp.Trailer.Get("Mpr-Secret") != "" {
			t.Errorf("the client got the trailers %v", resp.Trailer)
		}
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		c := g.dial()
		c.head(g, "POST /x", "Procore-Company-Id: "+inEU01.String(), "Transfer-Encoding: chunked", "TE: trailers",
			"Trailer: X-Sum, Procore-Company-Id, Mpr-Epoch, Authorization")
		c.write("5\r\nhello\r\n0\r\nX-Sum: 123\r\nProcore-Company-Id: 999\r\nMpr-Epoch: 999\r\nAuthorization: 999\r\nX-Not-Announced: 999\r\n\r\n")
		check(t, c.answer("POST"))
	})
	t.Run("HTTP/2", func(t *testing.T) {
		client, url := g.secure()
		r := request(t, "POST", url+"/x", g.header(inEU01), io.MultiReader(strings.NewReader("hello")))
		r.Trailer = http.Header{"X-Sum": {"123"}}
		resp, err := client.Do(r)
		must(t, err)
		defer resp.Body.Close()
		check(t, resp)
	})
}

// A client that asks before it sends is answered by who decides.
func TestExpectContinue(t *testing.T) {
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		echo(w, r)
	}})
	headers := []string{"Procore-Company-Id: " + inEU01.String(), "Content-Length: 5", "Expect: 100-continue"}
	t.Run("wanted", func(t *testing.T) {
		c := g.dial()
		c.head(g, "POST /yes", headers...)
		if resp := c.answer("POST"); resp.StatusCode != 100 {
			t.Fatal(resp.Status)
		}
		c.write("hello")
		if resp := c.answer("POST"); resp.StatusCode != 200 { // and no second 100
			t.Fatal(resp.Status)
		}
	})
	t.Run("not wanted by the region", func(t *testing.T) {
		c := g.dial()
		c.head(g, "POST /no", headers...)
		if resp := c.answer("POST"); resp.StatusCode != 403 || !resp.Close {
			t.Fatal(resp.Status, resp.Close)
		}
	})
	t.Run("not wanted by us", func(t *testing.T) {
		c := g.dial()
		c.head(g, "POST /yes", headers[1:]...)
		if resp := c.answer("POST"); resp.StatusCode != 400 || !resp.Close {
			t.Fatal(resp.Status, resp.Close)
		}
	})
}

// RFC 8297: hints go ahead of the answer.
func TestInformationalAnswers(t *testing.T) {
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.Header().Set("Mpr-Secret", "x")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		echo(w, r)
	}})
	c := g.dial()
	c.head(g, "GET /x", "Procore-Company-Id: "+inEU01.String())
	resp := c.answer("GET")
	if resp.StatusCode != 103 || resp.Header.Get("Link") == "" || resp.Header.Get("Mpr-Secret") != "" {
		t.Fatal(resp.Status, resp.Header)
	}
	if resp = c.answer("GET"); resp.StatusCode != 200 || resp.Header.Get("Link") != "" {
		t.Fatal(resp.Status, resp.Header)
	}
	// RFC 9110 section 15.2: never to a client of HTTP/1.0.
	old := g.dial()
	old.write("GET /x HTTP/1.0\r\nAuthorization: Bearer " + g.user + "\r\nProcore-Company-Id: " + inEU01.String() + "\r\n\r\n")
	if resp := old.answer("GET"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	old.ends()
}

func TestAnswersWithoutBody(t *testing.T) {
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/empty":
			w.Header().Set("Content-Length", "0")
		default:
			w.Header().Set("Content-Length", "12345")
			w.Header()["Content-Type"] = nil
			if r.Method != http.MethodHead {
				must2(w.Write(make([]byte, 12345)))
			}
		}
	}})
	for _, c := range []struct {
		method, path string
		status       int
		length       string
	}{
		{"HEAD", "/x", 200, "12345"}, {"GET", "/x", 200, "12345"}, {"GET", "/204", 204, ""}, {"GET", "/304", 304, ""},
		{"HEAD", "/304", 304, ""}, {"GET", "/empty", 200, "0"}, {"DELETE", "/204", 204, ""},
	} {
		got := g.send(c.method, c.path, g.header(inEU01), nil)
		if got.StatusCode != c.status || got.Header.Get("Content-Length") != c.length {
			t.Errorf("%s %s: %s, Content-Length %q", c.method, c.path, got.Status, got.Header.Get("Content-Length"))
		}
		if _, guessed := got.Header["Content-Type"]; guessed {
			t.Errorf("%s %s: a Content-Type out of nowhere: %v", c.method, c.path, got.Header)
		}
		if c.path == "/304" && got.Header.Get("ETag") != `"x"` {
			t.Errorf("%s %s: the ETag is lost", c.method, c.path)
		}
	}
}

// A body may be as long as it likes, but not longer than the limit.
func TestBodyLimit(t *testing.T) {
	var upstream atomic.Int64
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		upstream.Store(n)
		if err == nil {
			w.WriteHeader(http.StatusNoContent)
		}
	}}, func(o *Options) { o.Limits.MaxBody = 100_000 })
	for name, c := range map[string]struct {
		size, length int64
		status       int
	}{
		"just":             {100_000, 100_000, 204},
		"just, in chunks":  {100_000, -1, 204},
		"above":            {100_001, 100_001, 413},
		"above, in chunks": {100_001, -1, 413},
		"far above":        {50 << 20, 50 << 20, 413},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "POST", g.api.URL+"/x", g.header(inEU01), newStream(c.size))
			r.ContentLength = c.length
			got := do(t, g.api.Client(), r)
			code := problem.Code("")
			if c.status == 413 {
				code = problem.BodyTooLarge
			}
			got.want(t, c.status, code)
		})
	}
}
