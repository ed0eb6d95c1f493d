package http1

import (
	"net/http"
	"strconv"
	"strings"
)

// statusLines are those of the registered statuses.
var statusLines = func() (lines [600]string) {
	for status := range lines {
		if text := http.StatusText(status); text != "" {
			lines[status] = "HTTP/1.1 " + strconv.Itoa(status) + " " + text + "\r\n"
		}
	}
	return lines
}()

func appendStatus(b []byte, status int) []byte {
	if status >= 0 && status < len(statusLines) && statusLines[status] != "" {
		return append(b, statusLines[status]...)
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	return append(b, " status\r\n"...)
}

// appendHeader appends a header, but for the names that are left out.
func appendHeader(b []byte, h http.Header, leftOut func(string) bool) []byte {
	for name, values := range h {
		if len(values) == 0 || leftOut(name) {
			continue
		}
		for _, v := range values {
			b = AppendField(b, name, v)
		}
	}
	return b
}

// AppendField appends a line of a header. What could end the line early doesn't: names that are none are left
// out, and line ends in values become spaces.
func AppendField(b []byte, name, value string) []byte {
	for i := range len(name) {
		if class[name[i]]&inToken == 0 {
			return b
		}
	}
	b = append(b, name...)
	b = append(b, ": "...)
	if strings.IndexByte(value, '\r') >= 0 || strings.IndexByte(value, '\n') >= 0 || strings.IndexByte(value, 0) >= 0 {
		value = strings.Map(func(r rune) rune {
			if r == '\r' || r == '\n' || r == 0 {
				return ' '
			}
			return r
		}, value)
	}
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// AppendNumber appends a line of a header whose value is a number.
func AppendNumber(b []byte, name string, n int64) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}
