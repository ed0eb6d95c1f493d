package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpr/test/loopback"
)

// seen answers with what a request was taken for.
func seen(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %s %q", r.Method, r.URL.RequestURI(), body)
}

// ourServer serves a handler until the test ends.
func ourServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := &Server{
		Handler: h, MaxHeader: 64 << 10, HeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, StallTimeout: 10 * time.Second,
		Refused: func(w http.ResponseWriter, _ *http.Request, e *Error) { http.Error(w, e.Reason, e.Status) },
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		must(t, s.Close())
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		<-s.ended
	})
	return l.Addr().String()
}

// theirServer is net/http's.
func theirServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &http.Server{Handler: h, MaxHeaderBytes: 64 << 10, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		must(t, s.Close())
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// nginx passes requests on to an address.
func nginx(t *testing.T, to string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Skip("nginx is missing: install the package nginx-light, or run make test as root on Debian")
		}
	}
	dir, address := t.TempDir(), loopback.FreeAddresses(t, 1)[0]
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 256; }
http {
  access_log off; large_client_header_buffers 4 64k; keepalive_requests 1000000;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[2]s; location / { proxy_pass http://%[3]s; proxy_http_version 1.1; } }
}
`, dir, address, to)
	file := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(file, []byte(config), 0o600))
	cmd := exec.Command(program, "-c", file, "-e", "stderr") //nolint:gosec // found above
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait()
	})
	for begun := time.Now(); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			must(t, conn.Close())
			return address
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal(err)
		}
	}
}

// ask sends a request as it is and answers all statuses, until the connection ends or nothing more
// can come, and the body of the first answer.
func ask(t *testing.T, address, request string) (statuses []int, first string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	// What is sent behind it shows where the server thinks that it has ended.
	go func() {
		_, _ = io.WriteString(conn, request+"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}()
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, first
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return statuses, first
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		if len(statuses) == 0 {
			first = string(body)
		}
		statuses = append(statuses, resp.StatusCode)
	}
}

func taken(statuses []int) bool { return len(statuses) > 0 && statuses[0] == http.StatusOK }

// What one of net/http and nginx refuses, we refuse; and what we take is taken for the same by all.
func TestCorpus(t *testing.T) {
	ours, theirs := ourServer(t, seen), theirServer(t, seen)
	third := nginx(t, theirs)
	for _, c := range corpus {
		t.Run(c.name, func(t *testing.T) {
			statuses, body := ask(t, ours, c.request)
			if got := taken(statuses); got != c.taken || !got && len(statuses) > 1 {
				t.Fatalf("answered %v, %q", statuses, body)
			}
			if !c.taken {
				return
			}
			for name, address := range map[string]string{"net/http": theirs, "nginx": third} {
				others, other := ask(t, address, c.request)
				if !taken(others) || len(others) != len(statuses) || other != body {
					t.Errorf("we answer %v, %q, and %s %v, %q", statuses, body, name, others, other)
				}
			}
		})
	}
}

// The same of requests that are made of those of the corpus by chance.
func TestMutations(t *testing.T) {
	ours, theirs := ourServer(t, seen), theirServer(t, seen)
	third := nginx(t, theirs)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	lot := rand.New(rand.NewPCG(seed, 0))
	pieces := []string{" ", "\t", "\r", "\n", "\r\n", "\x00", ":", ",", ";", "0", "5", "chunked", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Host: b\r\n", "_", "-", "%", "/", "HTTP/1.1", "\x0b", "\x7f", "\xff"}
	for range 400 {
		c := corpus[lot.IntN(len(corpus))]
		if len(c.request) > 2<<10 {
			continue
		}
		request := c.request
		for range 1 + lot.IntN(3) {
			at, piece := lot.IntN(len(request)+1), pieces[lot.IntN(len(pieces))]
			switch end := min(at+lot.IntN(4), len(request)); lot.IntN(3) {
			case 0:
				request = request[:at] + piece + request[at:]
			case 1:
				request = request[:at] + piece + request[end:]
			default:
				request = request[:at] + request[end:]
			}
		}
		statuses, body := ask(t, ours, request)
		if !taken(statuses) || strings.HasPrefix(request, "GET /last") {
			continue
		}
		for name, address := range map[string]string{"net/http": theirs, "nginx": third} {
			if others, other := ask(t, address, request); !taken(others) || other != body {
				t.Errorf("%q: we answer %v, %q, and %s %v, %q", request, statuses, body, name, others, other)
			}
		}
	}
}

// Requests that come before their answers are answered in order.
func TestPipelining(t *testing.T) {
	ours := ourServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	conn, err := net.Dial("tcp", ours)
	must(t, err)
	defer conn.Close()
	var all strings.Builder
	for i := range 50 {
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", i)
	}
	go func() { _, _ = io.WriteString(conn, all.String()) }()
	r := bufio.NewReader(conn)
	for i := range 50 {
		resp, err := http.ReadResponse(r, nil)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		if string(body) != fmt.Sprintf("/%d", i) {
			t.Fatalf("the answer to %d is that to %s", i, body)
		}
	}
}

// An upstream's answer is one, or the call fails.
func TestAnswers(t *testing.T) {
	for _, c := range answers {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, c.answer)
			}()
			body, err := callOnce(t, l.Addr().String())
			if c.taken != (err == nil) || err == nil && body != "hi" {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}

// callOnce sends a request to an address.
func callOnce(t *testing.T, address string) (string, error) {
	t.Helper()
	client := testClient(t, address)
	var ctx Context
	ctx.Begin(context.Background())
	resp, _, err := client.Send(&ctx, &Request{Method: http.MethodGet, Target: "/", Host: "a", Again: true})
	if err != nil {
		return "", err
	}
	defer resp.Close()
	body, err := io.ReadAll(resp)
	return string(body), err
}

func testClient(t *testing.T, address string) *Client {
	t.Helper()
	watch := NewWatch()
	c := &Client{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		Watch: watch, MaxIdle: 4, IdleTime: time.Minute, AnswerTimeout: 10 * time.Second, StallTimeout: 10 * time.Second, ContinueTimeout: time.Second, MaxHeader: 64 << 10,
	}
	c.Begin()
	t.Cleanup(func() { c.Close(); watch.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
