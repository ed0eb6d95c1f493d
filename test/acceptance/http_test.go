package acceptance

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// call is one HTTP request, written down the way a test thinks of it.
type call struct {
	Method  string // GET where empty
	URL     string
	Token   string // the bearer token
	Company int64  // the Procore-Company-Id header, where it isn't 0
	Header  map[string]string
	// At most one of these is the body.
	JSON any
	Form url.Values
	Body string // with its Content-Type in Header
	// Client is plain where nil: no cookies, no redirects followed.
	Client *http.Client
}

// answer is what came back.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
	call   call
}

var plain = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 64, TLSClientConfig: doorTrust, ForceAttemptHTTP2: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// callWithin is how long a call may take: one that hangs is a failure, not a test without end.
const callWithin = time.Minute

// do sends the call.
func (c call) do(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	var body io.Reader = strings.NewReader(c.Body)
	contentType := ""
	switch {
	case c.JSON != nil:
		b, err := json.Marshal(c.JSON)
		if err != nil {
			return answer{}, err
		}
		body, contentType = bytes.NewReader(b), "application/json"
	case c.Form != nil:
		body, contentType = strings.NewReader(c.Form.Encode()), "application/x-www-form-urlencoded"
	}
	r, err := http.NewRequestWithContext(ctx, c.Method, c.URL, body)
	if err != nil {
		return answer{}, err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if c.Company != 0 {
		r.Header.Set("Procore-Company-Id", strconv.FormatInt(c.Company, 10))
	}
	for name, value := range c.Header {
		r.Header.Set(name, value)
	}
	client := c.Client
	if client == nil {
		client = plain
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b, c}, err
}

// send sends the call and fails the test where no answer comes.
func (c call) send(t *testing.T) answer {
	t.Helper()
	a, err := c.do(t.Context())
	if err != nil {
		t.Fatalf("%s %s: %v", c.Method, c.URL, err)
	}
	return a
}

func (a answer) String() string {
	return fmt.Sprintf("%s %s: %d %s", a.call.Method, a.call.URL, a.Status, a.Body)
}

// want fails the test where the answer has another status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("%v; want %d", a, status)
	}
	return a
}

// wantCode fails the test where the answer isn't a refusal with this status and code: at
// /oauth the code stands in "error", elsewhere in "code". Every refusal must tell its
// request id.
func (a answer) wantCode(t *testing.T, status int, code string) answer {
	t.Helper()
	a.want(t, status)
	var refusal struct {
		Code, Error, Message string
		Description          string `json:"error_description"`
		RequestID            string `json:"request_id"`
	}
	a.into(t, &refusal)
	if refusal.Code+refusal.Error != code {
		t.Fatalf("%v; want the code %q", a, code)
	}
	if refusal.Message+refusal.Description == "" {
		t.Errorf("%v has no message", a)
	}
	if id := a.Header.Get("X-Request-Id"); id == "" || id != refusal.RequestID {
		t.Errorf("%v: request id %q in the body, %q in the header", a, refusal.RequestID, id)
	}
	return a
}

// into reads the answer's JSON.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		t.Fatalf("%v: %v", a, err)
	}
}

// object is a JSON object of which a test reads a field or two.
type object struct {
	ID      int64  `json:"id"`
	Name    string `json:"name"`
	Login   string `json:"login"`
	Subject string `json:"subject"`
}

func (a answer) object(t *testing.T) object {
	t.Helper()
	var o object
	a.into(t, &o)
	return o
}

func (a answer) objects(t *testing.T) []object {
	t.Helper()
	var list []object
	a.into(t, &list)
	return list
}

// ids are the ids of the objects of a list.
func ids(list []object) []int64 {
	all := make([]int64, len(list))
	for i, o := range list {
		all[i] = o.ID
	}
	return all
}

// hostsClient is an HTTP client for programs with hard-coded hosts: through the proxy,
// trusting the development CA and nobody else.
func (d *dev) hostsClient(t *testing.T) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(d.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", d.CA)
	}
	proxy, err := url.Parse(d.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: plain.CheckRedirect}
}

// eventually repeats a check until it says that all is well, and tells how long that
// took. It fails the test with the check's last words after the limit.
func eventually(t *testing.T, limit time.Duration, check func() (well bool, words string)) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		well, words := check()
		took := time.Since(began)
		if well {
			return took
		}
		if took > limit {
			t.Fatalf("still not after %v: %s", limit, words)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
	}
}
