package http1

import (
	"io"
	"net/http"
)

const (
	// maxLine bounds a line within a body: the size of a chunk with its extensions, or a trailer.
	maxLine = 2 << 10
	// maxOverhead bounds what a body holds beyond its data, over what its chunks pay for: else
	// somebody could send next to nothing for ever.
	maxOverhead = 16 << 10
	// maxTrailers bounds all trailers.
	maxTrailers = 8 << 10
)

// chunked reads a chunked body (RFC 9112 section 7.1).
type chunked struct {
	from     *reader
	left     int64 // of the chunk
	begun    bool  // the end of a chunk must be read before the next size
	overhead int64
	err      error
	// trailer gets the trailers: those whose names it has, or all; the others are dropped.
	trailer http.Header
	all     bool
}

func (c *chunked) reset(from *reader, trailer http.Header, all bool) {
	*c = chunked{from: from, trailer: trailer, all: all}
}

// Read never reads past the body's end.
func (c *chunked) Read(p []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for c.left == 0 {
		if c.err = c.next(); c.err != nil {
			return 0, c.err
		}
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err = c.from.Read(p)
	c.left -= int64(n)
	if err != nil {
		c.err = unexpected(err)
		return n, c.err
	}
	// The end may have come along, and then it is told along with the last bytes.
	if c.left == 0 && c.endBuffered() {
		if c.err = c.next(); c.err != nil {
			return n, c.err
		}
	}
	return n, nil
}

// endBuffered says whether what is in the buffer is the end of the body, without trailers.
func (c *chunked) endBuffered() bool {
	const end = "\r\n0\r\n\r\n"
	b := c.from.buffered()
	return len(b) >= len(end) && string(b[:len(end)]) == end
}

// next goes on to the next chunk; io.EOF where there is none.
func (c *chunked) next() error {
	if c.begun {
		line, err := c.from.line()
		if err != nil {
			return err
		}
		if len(line) > 0 {
			return malformed("a chunk is longer than it says")
		}
	}
	line, err := c.from.line()
	if err != nil {
		return err
	}
	size, err := chunkSize(line)
	if err != nil {
		return err
	}
	c.begun = true
	c.overhead = max(c.overhead+int64(len(line))+4-16-2*min(size, maxOverhead), 0)
	if c.overhead > maxOverhead {
		return malformed("the body's chunks hold too little")
	}
	if size == 0 {
		return c.end()
	}
	c.left = size
	return nil
}

// chunkSize reads the line before a chunk: the size, and extensions, which mean nothing here.
func chunkSize(line []byte) (int64, error) {
	size, digits := int64(0), 0
	for ; digits < len(line); digits++ {
		n, ok := hexDigit(line[digits])
		if !ok {
			break
		}
		if digits == 15 {
			return 0, malformed("a chunk is too large")
		}
		size = size<<4 | int64(n)
	}
	if digits == 0 || digits < len(line) && line[digits] != ';' || !isValue(string(line[digits:])) {
		return 0, malformed("the size of a chunk isn't a number")
	}
	return size, nil
}

func hexDigit(b byte) (byte, bool) {
	switch {
	case b >= '0' && b <= '9':
		return b - '0', true
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10, true
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}

// end reads the trailers.
func (c *chunked) end() error {
	for total := 0; ; {
		line, err := c.from.line()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		if total += len(line); total > maxTrailers {
			return malformed("the trailers are too large")
		}
		var f fields
		f.reset()
		if err := f.add(string(line)); err != nil {
			return err
		}
		for name, values := range f.header {
			if _, ok := c.trailer[name]; ok || c.all {
				c.trailer[name] = append(c.trailer[name], values...)
			}
		}
	}
}
