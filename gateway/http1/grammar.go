package http1

import (
	"encoding/binary"
	"net/http"
	"net/textproto"
	"strings"
)

// Error is why a message is refused, with the status that answers a request like that.
type Error struct {
	Status int
	Reason string
}

func (e *Error) Error() string { return "malformed HTTP: " + e.Reason }

func malformed(reason string) error { return &Error{http.StatusBadRequest, reason} }

var (
	errBareLF   = malformed("a line doesn't end with CR LF")
	errTooLarge = &Error{http.StatusRequestHeaderFieldsTooLarge, "the header is too large"}
)

// Classes of bytes (RFC 9110 section 5.6.2, RFC 9112 section 3).
const (
	inToken byte = 1 << iota
	inHost
	upper
	lower
)

var class = func() (c [256]byte) {
	for b := range 256 {
		switch {
		case b >= 'a' && b <= 'z':
			c[b] = inToken | inHost | lower
		case b >= 'A' && b <= 'Z':
			c[b] = inToken | inHost | upper
		case b >= '0' && b <= '9':
			c[b] = inToken | inHost
		case strings.IndexByte("!#$%&'*+-.^_`|~", byte(b)) >= 0:
			c[b] = inToken
		}
		if strings.IndexByte("!$%&'()*+,-.:;=[]_~", byte(b)) >= 0 {
			c[b] |= inHost
		}
	}
	return c
}()

// fieldName answers a header's name in canonical form; false where it is none.
func fieldName(name string) (string, bool) {
	if name == "" {
		return "", false
	}
	canonical, first := true, true
	for i := range len(name) {
		c := class[name[i]]
		if c&inToken == 0 {
			return "", false
		}
		if first && c&lower != 0 || !first && c&upper != 0 {
			canonical = false
		}
		first = name[i] == '-'
	}
	if !canonical {
		name = textproto.CanonicalMIMEHeaderKey(name)
	}
	return name, true
}

// isValue says whether a header's value holds no control characters but tabs.
func isValue(s string) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	i := 0
	for ; i+8 <= len(s); i += 8 {
		// Eight bytes at a time: those below ' ', and those that are DEL.
		x := binary.LittleEndian.Uint64([]byte(s[i : i+8]))
		del := x ^ 0x7f*ones
		if ((x-0x20*ones)&^x|(del-ones)&^del)&highs != 0 && !isValueSlow(s[i:i+8]) {
			return false
		}
	}
	return isValueSlow(s[i:])
}

func isValueSlow(s string) bool {
	for i := range len(s) {
		if b := s[i]; b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// isTarget says whether a request target holds no control characters and no spaces.
func isTarget(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b == 0x7f {
			return false
		}
	}
	return s != ""
}

// isMethod says whether it is one that both net/http and nginx take.
func isMethod(s string) bool {
	for i := range len(s) {
		if b := s[i]; class[b]&upper == 0 && b != '-' && b != '_' {
			return false
		}
	}
	return s != ""
}

// isHost says whether it is a host, with a port or without (RFC 9110 section 7.2).
func isHost(s string) bool {
	name, port, _ := strings.Cut(s, ":")
	if strings.HasPrefix(s, "[") { // an address of IPv6
		end := strings.IndexByte(s, ']')
		if end < 0 || s[end+1:] != "" && s[end+1] != ':' {
			return false
		}
		name, port = s[1:end], strings.TrimPrefix(s[end+1:], ":")
	} else if strings.ContainsAny(name, "[]") {
		return false
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	for i := range len(name) {
		if class[name[i]]&inHost == 0 || name[i] == '.' && i > 0 && name[i-1] == '.' {
			return false
		}
	}
	return name != "" && name != "."
}

// isPlain says whether a host within a URI is a name or an address, with a port or without: nginx
// takes nothing else there.
func isPlain(s string) bool {
	for i := range len(s) {
		if b := s[i]; class[b]&(upper|lower) == 0 && (b < '0' || b > '9') && b != '.' && b != '-' && b != ':' && b != '[' && b != ']' {
			return false
		}
	}
	return true
}

// contentLength reads a length: digits and nothing else.
func contentLength(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	n := int64(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// trim takes the spaces and tabs off both ends (RFC 9110 section 5.6.3, OWS).
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// hasOption says whether one of the values of a header such as Connection lists an option.
func hasOption(values []string, option string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(trim(part), option) {
				return true
			}
		}
	}
	return false
}

// headEnd finds the end of a head, which is behind its empty line, and answers 0 where that isn't
// there yet. from is where the first line begins that hasn't been seen, and then where to go on.
func headEnd(b []byte, from *int) (int, error) {
	for {
		line, ok, err := nextLine(b, *from)
		if err != nil || !ok {
			return 0, err
		}
		begin := *from
		*from = line
		if line-begin == len("\r\n") {
			if begin == 0 {
				return 0, malformed("it begins with an empty line")
			}
			return line, nil
		}
	}
}

// nextLine answers where the line ends that begins at a place.
func nextLine(b []byte, begin int) (end int, ok bool, err error) {
	i := indexLF(b[begin:])
	if i < 0 {
		return 0, false, nil
	}
	if i == 0 || b[begin+i-1] != '\r' {
		return 0, false, errBareLF
	}
	return begin + i + 1, true, nil
}
