package http1

import (
	"net/http"
	"net/url"
	"strings"
)

// requestHead is the head of a request.
type requestHead struct {
	fields
	method, target string
	minor          int // of HTTP/1
	keepAlive      bool
	expects        bool // 100-continue
	trailer        http.Header
	url            url.URL
}

// read reads a head (RFC 9112 sections 2 to 6). It is as strict as net/http and nginx are
// together: what one of them refuses is refused, since a server behind may take it for something
// else than we do.
func (q *requestHead) read(head string) error {
	q.reset()
	end := strings.IndexByte(head, '\n')
	if end < 1 {
		return malformed("it has no request line")
	}
	if err := q.line(head[:end-1]); err != nil {
		return err
	}
	if err := q.fields.read(head[end+1:]); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	return q.parseTarget()
}

func (q *requestHead) line(line string) error {
	method, rest, _ := strings.Cut(line, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok {
		return malformed("the request line isn't METHOD TARGET HTTP/1.1")
	}
	switch version {
	case "HTTP/1.1":
		q.minor = 1
	case "HTTP/1.0":
		q.minor = 0
	default:
		if len(version) == len("HTTP/2.0") && strings.HasPrefix(version, "HTTP/") && version[6] == '.' {
			return &Error{http.StatusHTTPVersionNotSupported, "the version isn't HTTP/1.1"}
		}
		return malformed("the request line isn't METHOD TARGET HTTP/1.1")
	}
	if !isMethod(method) {
		return malformed("the method isn't one")
	}
	if !isTarget(target) {
		return malformed("the request target holds a character that none has")
	}
	q.method, q.target = method, target
	return nil
}

// check checks what the header says as a whole.
func (q *requestHead) check() error {
	switch {
	case q.hosts > 1:
		return malformed("there is more than one Host")
	case q.hosts == 0 && q.minor == 1:
		return malformed("there is no Host")
	case q.hosts == 1 && !isHost(q.host):
		return malformed("Host isn't one")
	case q.lengths > 1:
		return malformed("Content-Length comes more than once")
	}
	if err := q.coding(q.minor); err != nil {
		return err
	}
	var err error
	if q.trailer, err = q.announced(); err != nil {
		return err
	}
	delete(q.header, "Host")
	delete(q.header, "Transfer-Encoding")
	connection := q.header["Connection"]
	q.keepAlive = q.minor == 1 && !hasOption(connection, "close") || q.minor == 0 && hasOption(connection, "keep-alive") && !hasOption(connection, "close")
	q.expects = false
	if expect, ok := q.header["Expect"]; ok {
		if len(expect) != 1 || !strings.EqualFold(expect[0], "100-continue") {
			return &Error{http.StatusExpectationFailed, "Expect is something else than 100-continue"}
		}
		q.expects = q.minor == 1 && (q.chunked || q.length > 0)
	}
	return nil
}

// parseTarget reads the request target into the URL, as url.ParseRequestURI does.
func (q *requestHead) parseTarget() error {
	q.url = url.URL{}
	if q.target[0] == '/' && strings.IndexByte(q.target, '%') < 0 {
		var ok bool
		q.url.Path, q.url.RawQuery, ok = strings.Cut(q.target, "?")
		q.url.ForceQuery = ok && q.url.RawQuery == ""
		return nil
	}
	if q.target == "*" {
		return malformed("there is nothing behind the request target *") // nginx has nothing either
	}
	if q.method == http.MethodConnect && q.target[0] != '/' {
		if !isHost(q.target) {
			return malformed("the request target isn't a host")
		}
		q.url.Host = q.target
		return nil
	}
	u, err := url.ParseRequestURI(q.target)
	if err != nil {
		return malformed("the request target isn't a URI")
	}
	if u.Host != "" { // absolute-form, which says more than Host does (RFC 9112 section 3.2.2)
		if !isHost(u.Host) || !isPlain(u.Host) || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return malformed("the request target isn't the URI of a resource here")
		}
		q.host = u.Host
	} else if q.target[0] != '/' {
		return malformed("the request target isn't a path")
	}
	q.url = *u
	return nil
}
