package http1

import (
	"bytes"
	"errors"
	"io"
)

// reader reads a connection through a buffer. Heads are parsed where they lie in it.
type reader struct {
	from io.Reader
	buf  []byte
	r, w int
}

var errFull = errors.New("the buffer is full")

func (b *reader) buffered() []byte { return b.buf[b.r:b.w] }

func (b *reader) empty() bool { return b.r == b.w }

// fill reads more, once. What is there moves to the beginning of the buffer where that makes room.
func (b *reader) fill() error {
	if b.r > 0 && (b.r == b.w || b.w == len(b.buf)) {
		copy(b.buf, b.buf[b.r:b.w])
		b.r, b.w = 0, b.w-b.r
	}
	if b.w == len(b.buf) {
		return errFull
	}
	n, err := b.from.Read(b.buf[b.w:])
	b.w += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// shrink gives a buffer back that a large head has made grow.
func (b *reader) shrink(size int) {
	if len(b.buf) > size && b.empty() {
		b.buf, b.r, b.w = make([]byte, size), 0, 0
	}
}

// grow doubles the buffer, up to a size; false where it has that already.
func (b *reader) grow(most int) bool {
	if len(b.buf) >= most {
		return false
	}
	larger := make([]byte, min(2*len(b.buf), most))
	b.w = copy(larger, b.buf[b.r:b.w])
	b.r, b.buf = 0, larger
	return true
}

// Read reads what is in the buffer, or else from the connection, past the buffer where p is as
// large.
func (b *reader) Read(p []byte) (int, error) {
	if b.empty() {
		if len(p) >= len(b.buf) {
			return b.from.Read(p)
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	return n, nil
}

// line reads a line without its end. It is there until the next read.
func (b *reader) line() ([]byte, error) {
	for seen := 0; ; {
		if i := bytes.IndexByte(b.buf[b.r+seen:b.w], '\n'); i >= 0 {
			line := b.buf[b.r : b.r+seen+i]
			b.r += seen + i + 1
			if len(line) == 0 || line[len(line)-1] != '\r' {
				return nil, errBareLF
			}
			return line[:len(line)-1], nil
		}
		seen = b.w - b.r
		if seen > maxLine {
			return nil, malformed("a line within the body is too long")
		}
		if err := b.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}

// head reads a head: all up to its empty line. The bytes are there until the next read. most
// bounds it; first is called when its first byte is there, or was.
func (b *reader) head(most int, first func()) ([]byte, error) {
	begun := false
	for seen := 0; ; {
		if !begun && !b.empty() {
			begun = true
			if first != nil {
				first()
			}
		}
		end, err := headEnd(b.buffered(), &seen)
		if err != nil {
			return nil, err
		}
		if end > most || end == 0 && b.w-b.r > most {
			return nil, errTooLarge
		}
		if end > 0 {
			head := b.buf[b.r : b.r+end]
			b.r += end
			return head, nil
		}
		err = b.fill()
		if errors.Is(err, errFull) {
			if !b.grow(most + 1) {
				return nil, errTooLarge
			}
			err = b.fill()
		}
		if err != nil {
			if begun {
				return nil, unexpected(err)
			}
			return nil, err
		}
	}
}

// unexpected tells an end in the midst of something from a regular one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
