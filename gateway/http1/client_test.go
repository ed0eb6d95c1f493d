package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// upstream runs a script on each connection that it gets, and answers its address.
func upstream(t *testing.T, script func(n int, conn net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				script(n, conn, bufio.NewReader(conn))
			}()
		}
	}()
	return l.Addr().String()
}

const hi = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

// send sends a request and answers the body of the answer.
func send(t *testing.T, c *Client, q *Request) (string, error) {
	t.Helper()
	var ctx Context
	ctx.Begin(context.Background())
	resp, _, err := c.Send(&ctx, q)
	if err != nil {
		return "", err
	}
	defer resp.Close()
	body, err := io.ReadAll(resp)
	return string(body), err
}

func getOne() *Request {
	return &Request{Method: http.MethodGet, Target: "/", Host: "a", Again: true}
}

// A connection that has ended while it was kept costs no call, not even one that may have an effect.
func TestKeptConnectionsEnd(t *testing.T) {
	ended := make(chan bool)
	address := upstream(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = io.WriteString(conn, hi)
			if n == 0 {
				conn.Close()
				ended <- true
				return
			}
		}
	})
	c := testClient(t, address)
	if body, err := send(t, c, getOne()); body != "hi" || err != nil {
		t.Fatal(body, err)
	}
	<-ended
	q := &Request{Method: http.MethodPost, Target: "/", Host: "a", Body: strings.NewReader("hello"), Length: 5}
	if body, err := send(t, c, q); body != "hi" || err != nil {
		t.Fatal(body, err)
	}
}

// What comes on a connection while nobody has asked for anything is nobody's answer.
func TestNobodyAsked(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		more := make(chan bool)
		address := upstream(t, func(n int, conn net.Conn, r *bufio.Reader) {
			for i := 0; ; i++ {
				q, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, q.Body)
				_, _ = io.WriteString(conn, hi)
				if n == 0 {
					<-more
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
					more <- true
				}
			}
		})
		c := testClient(t, address)
		if body, err := send(t, c, getOne()); body != "hi" || err != nil {
			t.Fatal(body, err)
		}
		more <- true
		<-more
		q := getOne()
		if method == http.MethodPost {
			q = &Request{Method: method, Target: "/", Host: "a", Body: strings.NewReader("hello"), Length: 5}
		}
		if body, err := send(t, c, q); body != "hi" || err != nil {
			t.Errorf("%s: %q, %v", method, body, err)
		}
	}
}

// glued is a connection on which what is written while it holds goes out in one piece.
type glued struct {
	net.Conn
	holds bool
	held  []byte
}

func (g *glued) Write(p []byte) (int, error) {
	if !g.holds {
		return g.Conn.Write(p)
	}
	g.held = append(g.held, p...)
	return len(p), nil
}

// Over TLS, what nobody has asked for may have been read along with the answer before.
func TestNobodyAskedOverTLS(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil) // for its certificate
	pair.StartTLS()
	defer pair.Close()
	address := upstream(t, func(n int, conn net.Conn, _ *bufio.Reader) {
		out := &glued{Conn: conn}
		secure := tls.Server(out, pair.TLS)
		for r := bufio.NewReader(secure); ; {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			out.holds = true
			_, _ = io.WriteString(secure, hi)
			if n == 0 {
				_, _ = io.WriteString(secure, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			}
			out.holds = false
			_, _ = out.Write(out.held)
			out.held = nil
		}
	})
	c, dials := testClient(t, address), 0
	plain := c.Dial
	c.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := plain(ctx)
		if err != nil {
			return nil, err
		}
		dials++
		return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}), nil
	}
	for range 4 {
		if body, err := send(t, c, getOne()); body != "hi" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	}
	if dials != 2 {
		t.Errorf("%d connections, not the one that was spoilt and one that was kept", dials)
	}
}

// More than was said is nobody's answer either.
func TestTooMuch(t *testing.T) {
	address := upstream(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(conn, hi+"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		}
	})
	c := testClient(t, address)
	for range 3 {
		if body, err := send(t, c, getOne()); body != "hi" || err != nil {
			t.Fatal(body, err)
		}
	}
}

// A request that can't be one is never sent.
func TestRequestsThatCannotBe(t *testing.T) {
	address := upstream(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			t.Error("it was sent")
		}
	})
	c := testClient(t, address)
	for _, q := range []*Request{
		{Method: "GET", Target: "/ HTTP/1.1\r\nX: y", Host: "a"}, {Method: "GET /", Target: "/", Host: "a"}, {Method: "GET", Target: "/", Host: "a\r\nX: y"}, {Method: "GET", Target: "", Host: "a"},
	} {
		if body, err := send(t, c, q); err == nil {
			t.Errorf("%+v: %q", q, body)
		}
	}
}
