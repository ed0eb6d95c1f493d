package http1

import (
	"bytes"
	"net/http"
	"strings"
)

func indexLF(b []byte) int { return bytes.IndexByte(b, '\n') }

// fields are the header of a message. They are used for one message after another: what they hold
// is overwritten by the next one, but for the strings.
type fields struct {
	header http.Header
	values []string // those of header, but for headers that come more than once

	// What the framing depends on.
	host           string
	hosts          int
	length         int64 // -1: there is no Content-Length
	lengths        int
	chunked        bool
	encodings      int
	unknownCoding  bool
	differentSizes bool
}

func (f *fields) reset() {
	f.header = emptied(f.header)
	if len(f.values) > manyFields {
		f.values = nil
	}
	clear(f.values)
	*f = fields{header: f.header, values: f.values[:0], length: -1}
}

// manyFields is how large a header may be to be used again: what one message needed mustn't stay
// with its connection.
const manyFields = 64

// emptied is a header without anything in it.
func emptied(h http.Header) http.Header {
	if h == nil || len(h) > manyFields {
		return http.Header{}
	}
	clear(h)
	return h
}

// read reads the lines of a head, which end with an empty one.
func (f *fields) read(lines string) error {
	for {
		end := strings.IndexByte(lines, '\n')
		if end < 1 {
			return malformed("a header's line doesn't end") // headEnd has seen that it does
		}
		line := lines[:end-1]
		lines = lines[end+1:]
		if line == "" {
			return nil
		}
		if err := f.add(line); err != nil {
			return err
		}
	}
}

func (f *fields) add(line string) error {
	if line[0] == ' ' || line[0] == '\t' {
		return malformed("a header's value goes on in a second line") // RFC 9112 section 5.2, obs-fold
	}
	colon := strings.IndexByte(line, ':')
	if colon < 0 {
		return malformed("a header's line has no colon")
	}
	name, ok := fieldName(line[:colon])
	if !ok {
		return malformed("a header's name holds a character that no name has")
	}
	raw := line[colon+1:]
	if !isValue(raw) {
		return malformed("a header's value holds a control character")
	}
	value := trim(raw)
	if err := f.frame(name, value, raw); err != nil {
		return err
	}
	f.values = append(f.values, value)
	known, before := len(f.header), f.header[name]
	f.header[name] = f.values[len(f.values)-1 : len(f.values) : len(f.values)]
	if len(f.header) == known {
		f.header[name] = append(before, value)
	}
	return nil
}

// frame notes what says where a message ends, and who it is for.
func (f *fields) frame(name, value, raw string) error {
	switch name {
	case "Host":
		f.hosts++
		f.host = value
		if strings.IndexByte(raw, '\t') >= 0 {
			f.host = "" // which is none
		}
	case "Content-Length":
		n, ok := contentLength(value)
		if !ok || strings.IndexByte(raw, '\t') >= 0 {
			return malformed("Content-Length isn't a number")
		}
		f.differentSizes = f.lengths > 0 && n != f.length || f.differentSizes
		f.lengths++
		f.length = n
	case "Transfer-Encoding":
		f.encodings++
		f.chunked = strings.EqualFold(value, "chunked")
		f.unknownCoding = f.unknownCoding || !f.chunked || strings.IndexByte(raw, '\t') >= 0
	}
	return nil
}

// coding checks what Transfer-Encoding says together with all else.
func (f *fields) coding(minor int) error {
	switch {
	case f.encodings == 0:
		return nil
	case f.unknownCoding:
		return &Error{http.StatusNotImplemented, "Transfer-Encoding is something else than chunked"}
	case f.encodings > 1:
		return malformed("Transfer-Encoding comes more than once")
	case minor == 0:
		return malformed("Transfer-Encoding came over HTTP/1.0")
	case f.lengths > 0:
		return malformed("there are both Transfer-Encoding and Content-Length")
	}
	return nil
}

// announced takes the Trailer header off, and answers the trailers that it names, without values;
// nil for none (RFC 9110 section 6.6.2).
func (f *fields) announced() (http.Header, error) {
	values, ok := f.header["Trailer"]
	if !ok {
		return nil, nil //nolint:nilnil // none is no error
	}
	delete(f.header, "Trailer")
	if !f.chunked {
		return nil, nil //nolint:nilnil // there is no place for them
	}
	t := http.Header{}
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			name, ok := fieldName(trim(part))
			switch name {
			case "Transfer-Encoding", "Content-Length", "Trailer", "Host":
				ok = false
			}
			if !ok {
				return nil, malformed("Trailer names something that can't be one")
			}
			t[name] = nil
		}
	}
	return t, nil
}
