package gateway

import (
	"net/http"
	"strings"

	"mpr/problem"
)

// target is what a request asks for, as the client wrote it.
type target struct {
	// path is the path before any decoding.
	path string
	// query is what follows the first "?", which is not part of it.
	query string
	// raw is path and query together.
	raw string
}

// readTarget finds the request target of a request and refuses what an upstream may read
// in another way than we do: the exempt list and the company in the path would otherwise
// mean one resource here and another one there.
func readTarget(r *http.Request) (target, *problem.Problem) {
	// RFC 9110 section 9.3.8: a TRACE request is answered with its own header; between
	// here and the region that header holds what isn't the client's to see.
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		return target{}, problem.New(problem.MethodNotAllowed, "The method %s is not served here.", r.Method)
	}
	raw := r.RequestURI
	if !strings.HasPrefix(raw, "/") {
		// RFC 9112 section 3.2.2: "a server MUST accept the absolute-form in requests".
		_, rest, ok := strings.Cut(raw, "://")
		slash := strings.IndexAny(rest, "/?")
		if !ok || slash <= 0 || rest[slash] == '?' {
			return target{}, rejected("it must be a path that starts with a slash")
		}
		raw = rest[slash:]
	}
	t := target{raw: raw}
	t.path, t.query, _ = strings.Cut(raw, "?")
	if why := checkPath(t.path); why != "" {
		return target{}, rejected(why)
	}
	for i := range len(t.query) {
		// HTTP/2 carries characters here that would end the request line of HTTP/1.1
		// (RFC 9113 section 8.2.1 leaves them to us).
		if c := t.query[i]; c <= ' ' || c == 0x7f || c == '#' {
			return target{}, rejected("the query contains a character that must be percent-encoded")
		}
	}
	return t, nil
}

// checkPath says why a path is not canonical; empty if it is.
func checkPath(path string) string {
	start := 1 // of the current segment
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			segment := path[start:i]
			if segment == "" && i < len(path) {
				return "the path contains an empty segment (//)"
			}
			// Some servers cut off ";..." before they resolve the dots.
			segment, _, _ = strings.Cut(segment, ";")
			if segment == "." || segment == ".." {
				return "the path contains a segment of dots (. or ..)"
			}
			start = i + 1
			continue
		}
		switch c := path[i]; {
		case c <= ' ' || c == 0x7f || c == '#':
			return "the path contains a character that must be percent-encoded"
		case c == '\\':
			return "the path contains a backslash"
		case c == '%':
			if i+2 >= len(path) {
				return "the path contains an incomplete percent-encoding"
			}
			if why := checkEncoded(path[i+1], path[i+2]); why != "" {
				return why
			}
		}
	}
	return ""
}

// checkEncoded looks at a percent-encoded character of a path.
func checkEncoded(high, low byte) string {
	c, ok := unhex(high, low)
	switch {
	case !ok:
		return "the path contains a malformed percent-encoding"
	case c == '/' || c == '\\':
		return "the path contains an encoded slash or backslash"
	case c == '.':
		return "the path contains an encoded dot"
	case c < ' ' || c == 0x7f:
		return "the path contains an encoded control character"
	}
	return ""
}

func unhex(high, low byte) (byte, bool) {
	h, ok1 := nibble(high)
	l, ok2 := nibble(low)
	return h<<4 | l, ok1 && ok2
}

func nibble(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func rejected(why string) *problem.Problem {
	return problem.New(problem.RequestTargetRejected,
		"The request target was rejected: %s. Send the path exactly as the API's reference shows it.", why)
}

// isAuthentication says whether a path belongs to the login service: the OAuth endpoints
// and their metadata (RFC 8414 section 3). No company and no token stands behind them.
func isAuthentication(path string) bool {
	return path == "/oauth" || strings.HasPrefix(path, "/oauth/") || strings.HasPrefix(path, "/.well-known/oauth-") ||
		path == "/.well-known/jwks.json"
}
