package http1

import "strings"

// corpus are requests that servers have been known to read differently. taken says which must be
// served; all others must be refused.
var corpus = []struct {
	name, request string
	taken         bool
}{
	{"plain", get(), true},
	{"with a query", "GET /a/b?c=d&e=%20f HTTP/1.1\r\nHost: api.procore.com\r\n\r\n", true},
	{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", true},
	{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", true},
	{"a body", post("Content-Length: 5", "hello"), true},
	{"an empty body", post("Content-Length: 0", ""), true},
	{"chunks", post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"), true},
	{"chunks in capitals", post("Transfer-Encoding: Chunked", "A\r\n0123456789\r\n0\r\n\r\n"), true},
	{"an extension of a chunk", post("Transfer-Encoding: chunked", "5;name=value\r\nhello\r\n0\r\n\r\n"), true},
	{"a trailer", post("Transfer-Encoding: chunked\r\nTrailer: X-Sum", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), true},
	{"absolute-form", "GET http://api.procore.com/a HTTP/1.1\r\nHost: api.procore.com\r\n\r\n", true},
	{"a port", get("Host: api.procore.com:4001"), true},
	{"an address", get("Host: [::1]:4001"), true},
	{"an empty value", get("X-Empty:"), true},
	{"tabs around a value", get("X-Tab:\t a\tb \t"), true},
	{"letters beyond ASCII", get("X-Name: J\xc3\xbcrgen"), true},
	{"an underscore in a name", get("X_Name: a"), true},
	{"two of a name", get("X-A: 1", "x-a: 2"), true},
	{"expects", post("Content-Length: 5\r\nExpect: 100-continue", "hello"), true},

	// Content-Length
	{"two lengths that differ", post("Content-Length: 5\r\nContent-Length: 6", "hello!"), false},
	{"two lengths that agree", post("Content-Length: 5\r\nContent-Length: 5", "hello"), false},
	{"two lengths in one", post("Content-Length: 5, 5", "hello"), false},
	{"a sign", post("Content-Length: +5", "hello"), false},
	{"a negative length", post("Content-Length: -5", "hello"), false},
	{"a length in hexadecimal", post("Content-Length: 0x5", "hello"), false},
	{"a length with a point", post("Content-Length: 5.0", "hello"), false},
	{"no length in it", post("Content-Length:", ""), false},
	{"a length with letters", post("Content-Length: 5a", "hello"), false},
	{"a length with a space", post("Content-Length: 1 0", "hello"), false},
	{"a length that overflows", post("Content-Length: 18446744073709551621", "hello"), false},
	{"a length behind a tab", post("Content-Length:\t5", "hello"), false},
	{"a length behind a vertical tab", post("Content-Length: \v5", "hello"), false},

	// Transfer-Encoding
	{"both", post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), false},
	{"both the other way", post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"), false},
	{"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), false},
	{"chunked, then identity", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"), false},
	{"chunked, chunked", post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), false},
	{"gzip, chunked", post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), false},
	{"identity", post("Transfer-Encoding: identity\r\nContent-Length: 5", "hello"), false},
	{"xchunked", post("Transfer-Encoding: xchunked\r\nContent-Length: 5", "hello"), false},
	{"chunked in quotes", post("Transfer-Encoding: \"chunked\"\r\nContent-Length: 5", "hello"), false},
	{"chunked with a parameter", post("Transfer-Encoding: chunked;q=1", "0\r\n\r\n"), false},
	{"no coding", post("Transfer-Encoding:\r\nContent-Length: 5", "hello"), false},
	{"a coding behind a tab", post("Transfer-Encoding:\tchunked", "0\r\n\r\n"), false},
	{"a coding behind a vertical tab", post("Transfer-Encoding: \vchunked", "0\r\n\r\n"), false},
	{"a coding behind a line end", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"), false},
	{"a coding before a NUL", post("Transfer-Encoding: chunked\x00", "0\r\n\r\n"), false},
	{"a space before the colon", post("Transfer-Encoding : chunked", "0\r\n\r\n"), false},
	{"a space before the name", post(" Transfer-Encoding: chunked", "0\r\n\r\n"), false},
	{"over HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},

	// Chunks
	{"a chunk's size with a sign", chunks("+5\r\nhello\r\n0\r\n\r\n"), false},
	{"a chunk's size with 0x", chunks("0x5\r\nhello\r\n0\r\n\r\n"), false},
	{"a chunk's size that overflows", chunks("10000000000000005\r\nhello\r\n0\r\n\r\n"), false},
	{"a chunk's size that is negative", chunks("-5\r\nhello\r\n0\r\n\r\n"), false},
	{"no chunk's size", chunks("\r\nhello\r\n0\r\n\r\n"), false},
	{"a space before a chunk's size", chunks(" 5\r\nhello\r\n0\r\n\r\n"), false},
	{"a space behind a chunk's size", chunks("5 \r\nhello\r\n0\r\n\r\n"), false},
	{"a chunk that is longer", chunks("5\r\nhello!\r\n0\r\n\r\n"), false},
	{"a chunk that is shorter", chunks("6\r\nhello\r\n0\r\n\r\n"), false},
	{"a chunk without its line end", chunks("5\r\nhello0\r\n\r\n"), false},
	{"a chunk's size and a bare LF", chunks("5\nhello\r\n0\r\n\r\n"), false},
	{"a chunk and a bare LF", chunks("5\r\nhello\n0\r\n\r\n"), false},
	{"an extension and a bare LF", chunks("5;a\nhello\r\n0\r\n\r\n"), false},
	{"an extension with a bare CR", chunks("5;a\rb\r\nhello\r\n0\r\n\r\n"), false},
	{"an extension that is endless", chunks("5;" + strings.Repeat("a", 20<<10) + "\r\nhello\r\n0\r\n\r\n"), false},
	{"a trailer that goes on", chunks("5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n"), false},
	{"a trailer without a colon", chunks("5\r\nhello\r\n0\r\nX\r\n\r\n"), false},
	{"an end with bare LFs", chunks("5\r\nhello\r\n0\n\n"), false},

	// Lines
	{"bare LFs", "GET / HTTP/1.1\nHost: a\n\n", false},
	{"a bare LF in the header", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", false},
	{"a bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", false},
	{"a bare CR in a value", get("X: a\rb"), false},
	{"a bare CR for a line end", "GET / HTTP/1.1\rHost: a\r\n\r\n", false},
	{"two CRs", get("X: a\r"), false},
	{"an empty line first", "\r\n" + get(), false},
	{"a NUL in a value", get("X: a\x00b"), false},
	{"a DEL in a value", get("X: a\x7fb"), false},
	{"a NUL in a name", get("X\x00: a"), false},
	{"obs-fold", get("X: a\r\n b"), false},
	{"obs-fold with a tab", get("X: a\r\n\tb"), false},
	{"obs-fold first", "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", false},
	{"a line without a colon", get("X"), false},
	{"no name", get(": a"), false},
	{"a space in a name", get("X Y: a"), false},
	{"a space behind a name", get("X : a"), false},
	{"a tab behind a name", get("X\t: a"), false},
	{"a parenthesis in a name", get("X(: a"), false},
	{"letters beyond ASCII in a name", get("\xc3\xbc: a"), false},
	{"a header that is too large", get("X: " + strings.Repeat("a", 80<<10)), false},
	{"a header of many lines", get(strings.Repeat("X: a\r\n", 20<<10) + "Y: b"), false},

	// Host
	{"no Host", "GET / HTTP/1.1\r\n\r\n", false},
	{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", false},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", false},
	{"two Hosts that agree", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", false},
	{"a tab before Host", "GET / HTTP/1.1\r\nHost:\ta\r\n\r\n", false},
	{"half of an address in Host", "GET / HTTP/1.1\r\nHost: ::1]:80\r\n\r\n", false},
	{"an address without brackets in Host", "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", false},
	{"a port that isn't one in Host", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", false},
	{"a slash in Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", false},
	{"a space in Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", false},
	{"a user in Host", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", false},
	{"two dots in Host", "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", false},
	{"only a port in Host", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", false},
	{"only a dot in Host", "GET / HTTP/1.1\r\nHost: .\r\n\r\n", false},

	// The request line
	{"HTTP/0.9", "GET /\r\n\r\n", false},
	{"HTTP/0.9 as a version", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", false},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", false},
	{"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", false},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", false},
	{"HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false},
	{"http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", false},
	{"HTTP /1.1", "GET / HTTP /1.1\r\nHost: a\r\n\r\n", false},
	{"HTTPS", "GET / HTTPS/1.1\r\nHost: a\r\n\r\n", false},
	{"a space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", false},
	{"two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"two spaces behind the target", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"a tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"a NUL in the target", "GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"a bad escape", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"no target", "GET  HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"a target without a slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"only a query", "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"asterisk-form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"GET *", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"absolute-form with a user", "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"absolute-form of another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"absolute-form with a host that is no name", "GET http://a;b/ HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"absolute-form without a host", "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"a method in small letters", "get / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"a method with a control character", "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"an answer", "HTTP/1.1 200 OK\r\n\r\n", false},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", false},

	{"Expect of something else", post("Content-Length: 5\r\nExpect: 200-ok", "hello"), false},
	{"Expect twice", post("Content-Length: 5\r\nExpect: 100-continue\r\nExpect: 100-continue", "hello"), false},
	{"a trailer that frames", post("Transfer-Encoding: chunked\r\nTrailer: Content-Length", "0\r\n\r\n"), false},
}

// get is a request with headers.
func get(headers ...string) string {
	host := "Host: api.procore.com"
	if len(headers) > 0 && strings.HasPrefix(headers[0], "Host:") {
		host = headers[0]
		headers = headers[1:]
	}
	return strings.Join(append([]string{"GET /rest/v1.0/projects HTTP/1.1", host}, headers...), "\r\n") + "\r\n\r\n"
}

// post is a request with a body.
func post(header, body string) string {
	return "POST /rest/v1.0/projects HTTP/1.1\r\nHost: api.procore.com\r\n" + header + "\r\n\r\n" + body
}

func chunks(body string) string { return post("Transfer-Encoding: chunked", body) }

// answers are what upstreams may say; taken says which are answers.
var answers = []struct {
	name, answer string
	taken        bool
}{
	{"a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true},
	{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", true},
	{"until the end", "HTTP/1.1 200 OK\r\n\r\nhi", true},
	{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhi", true},
	{"no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", true},
	{"a status of its own", "HTTP/1.1 299 \r\nContent-Length: 2\r\n\r\nhi", true},
	{"two lengths that agree", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", true},
	{"an informational one first", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true},

	{"two lengths that differ", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", false},
	{"both", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false},
	{"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi", false},
	{"chunks over HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false},
	{"a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", false},
	{"bare LFs", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", false},
	{"obs-fold", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi", false},
	{"a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi", false},
	{"a NUL", "HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 2\r\n\r\nhi", false},
	{"a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nhi", false},
	{"a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi", false},
	{"a status that is none", "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nhi", false},
	{"HTTP/2", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false},
	{"no HTTP at all", "hello\r\n\r\n", false},
	{"an empty line first", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false},
	{"it ends too early", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", false},
	{"its chunks end too early", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", false},
	{"nothing", "", false},
}
