package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// keepBody is how much of an answer's body of unknown length is kept, so that one that ends within
// has a Content-Length.
const keepBody = 2 << 10

// response is what a handler answers by. It is an http.ResponseWriter, and has all that
// http.ResponseController can ask for.
type response struct {
	conn   *conn
	header http.Header

	status   int
	begun    bool  // the status is known
	framed   bool  // the head is complete
	length   int64 // -1: unknown
	written  int64
	chunked  bool
	bodyless bool // whatever is written
	close    bool // the connection ends with this answer
	duplex   bool
	hijacked bool
	err      error  // that writing has met
	out      []byte // bytes that wait to be sent
	kept     []byte // of the body, until the head is complete

	// mu guards against a 100 Continue in the midst of an answer: whoever reads the body sends it.
	mu        sync.Mutex
	answering bool
}

func (w *response) begin() {
	w.header = emptied(w.header)
	if cap(w.out) > manyBytes {
		w.out = make([]byte, 0, writeBuffer)
	}
	w.status, w.begun, w.framed, w.length, w.written = 0, false, false, -1, 0
	w.chunked, w.bodyless, w.close, w.duplex, w.hijacked, w.err = false, false, false, false, false, nil
	w.out, w.kept, w.answering = w.out[:0], w.kept[:0], false
}

func (w *response) Header() http.Header { return w.header }

// WriteHeader begins the answer. An informational one is sent at once, and another one follows.
func (w *response) WriteHeader(status int) {
	if w.begun || w.hijacked {
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		w.inform(status)
		return
	}
	w.mu.Lock()
	w.answering = true
	w.mu.Unlock()
	w.begun, w.status = true, status
	if values := w.header["Content-Length"]; len(values) == 1 {
		if n, ok := contentLength(values[0]); ok {
			w.length = n
		}
	}
	w.bodyless = w.conn.head.method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified || status < 200
	w.out = appendStatus(w.out, status)
	w.out = appendHeader(w.out, w.header, leftOut)
	if w.length >= 0 || w.bodyless {
		w.frame()
	}
}

// inform sends an informational answer.
func (w *response) inform(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn.head.minor == 0 || w.err != nil {
		return
	}
	b := appendStatus(w.out[:0], status)
	b = appendHeader(b, w.header, leftOut)
	w.out = append(b, "\r\n"...)
	w.flush()
}

// goOn asks the client for the body.
func (w *response) goOn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.answering {
		w.err = w.conn.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
}

// leftOut says of an answer's headers which are about the framing, and so ours.
func leftOut(name string) bool {
	switch name {
	case "Content-Length", "Transfer-Encoding", "Connection", "Date", "Trailer":
		return true
	}
	return strings.HasPrefix(name, http.TrailerPrefix)
}

// frame completes the head: from here on it is known where the body ends.
func (w *response) frame() {
	w.framed = true
	c := w.conn
	connection := w.header["Connection"]
	w.close = w.close || !c.head.keepAlive || hasOption(connection, "close") || c.server.closing.Load()
	if !w.duplex && !c.body.drain() {
		w.close = true
	}
	switch noLength := w.status < 200 || w.status == http.StatusNoContent; {
	case w.length >= 0 && !noLength:
		w.out = append(w.out, "Content-Length: "...)
		w.out = strconv.AppendInt(w.out, w.length, 10)
		w.out = append(w.out, "\r\n"...)
	case w.bodyless:
	case c.head.minor == 1:
		w.chunked = true
		w.out = append(w.out, "Transfer-Encoding: chunked\r\n"...)
		for _, v := range w.header["Trailer"] {
			w.out = AppendField(w.out, "Trailer", v)
		}
	default:
		w.close = true // the end of the connection is that of the body
	}
	switch {
	case w.status == http.StatusSwitchingProtocols:
		for _, v := range connection {
			w.out = AppendField(w.out, "Connection", v)
		}
	case w.close:
		w.out = append(w.out, "Connection: close\r\n"...)
	case c.head.minor == 0:
		w.out = append(w.out, "Connection: keep-alive\r\n"...)
	}
	if date, ok := w.header["Date"]; ok {
		for _, v := range date {
			w.out = AppendField(w.out, "Date", v)
		}
	} else {
		w.out = append(w.out, "Date: "...)
		w.out = append(w.out, *c.server.watch.date.Load()...)
		w.out = append(w.out, "\r\n"...)
	}
	w.out = append(w.out, "\r\n"...)
}

func (w *response) Write(p []byte) (int, error) {
	switch {
	case w.hijacked:
		return 0, http.ErrHijacked
	case !w.begun:
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return 0, w.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if w.bodyless {
		if w.conn.head.method == http.MethodHead {
			return len(p), nil
		}
		return 0, http.ErrBodyNotAllowed
	}
	if w.written += int64(len(p)); w.length >= 0 && w.written > w.length {
		return 0, http.ErrContentLength
	}
	if !w.framed {
		if len(w.kept)+len(p) <= keepBody {
			w.kept = append(w.kept, p...)
			return len(p), nil
		}
		w.frame()
		w.flushKept()
	}
	w.data(p)
	return len(p), w.err
}

// flushKept passes on what was kept of the body.
func (w *response) flushKept() {
	if len(w.kept) > 0 {
		w.data(w.kept)
		w.kept = w.kept[:0]
	}
}

// data sends a piece of the body, or keeps it in the buffer where it fits.
func (w *response) data(p []byte) {
	if w.err != nil {
		return
	}
	if w.chunked {
		w.out = strconv.AppendInt(w.out, int64(len(p)), 16)
		w.out = append(w.out, "\r\n"...)
	}
	if len(w.out)+len(p)+len("\r\n") > cap(w.out) {
		// One system call, and no copy.
		pieces := net.Buffers{w.out, p}
		if w.chunked {
			pieces = append(pieces, crlf)
		}
		w.err = w.conn.writeAll(&pieces)
		w.out = w.out[:0]
		return
	}
	w.out = append(w.out, p...)
	if w.chunked {
		w.out = append(w.out, "\r\n"...)
	}
}

var crlf = []byte("\r\n")

// flush sends what waits.
func (w *response) flush() {
	if len(w.out) == 0 || w.err != nil {
		return
	}
	w.err = w.conn.write(w.out)
	w.out = w.out[:0]
}

// FlushError sends all that was written. It is for http.ResponseController.
func (w *response) FlushError() error {
	if w.hijacked {
		return http.ErrHijacked
	}
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if !w.framed {
		w.frame()
		w.flushKept()
	}
	w.flush()
	return w.err
}

// Flush is FlushError for those who don't want to know.
func (w *response) Flush() { _ = w.FlushError() }

// end completes the answer. It answers false where the connection can't be used again.
func (w *response) end() bool {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if !w.framed {
		w.length = w.written
		w.frame()
		w.flushKept()
	}
	if w.chunked {
		w.out = append(w.out, "0\r\n"...)
		w.trailers()
		w.out = append(w.out, "\r\n"...)
	}
	w.flush()
	if w.err != nil || w.length > w.written && !w.bodyless {
		return false
	}
	return !w.close
}

// trailers adds those that the handler has announced, and those under http.TrailerPrefix.
func (w *response) trailers() {
	for _, v := range w.header["Trailer"] {
		for part := range strings.SplitSeq(v, ",") {
			name, ok := fieldName(trim(part))
			if !ok || leftOut(name) {
				continue
			}
			for _, v := range w.header[name] {
				w.out = AppendField(w.out, name, v)
			}
		}
	}
	for key, values := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			for _, v := range values {
				w.out = AppendField(w.out, name, v)
			}
		}
	}
}

// Hijack gives the connection away, with what was read ahead.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.hijacked || w.begun {
		return nil, nil, http.ErrHijacked
	}
	c := w.conn
	if !c.body.whole.Load() {
		return nil, nil, errors.New("hijack: the request has a body, which hasn't been read")
	}
	c.unwatch()
	w.hijacked = true
	c.readBy(0)
	c.writeBy(0)
	ahead := io.MultiReader(bytes.NewReader(bytes.Clone(c.in.buffered())), c)
	return c.Conn, bufio.NewReadWriter(bufio.NewReader(ahead), bufio.NewWriter(c.Conn)), nil
}

// EnableFullDuplex has the answer begin before the body was read.
func (w *response) EnableFullDuplex() error {
	w.duplex = true
	return nil
}

// SetReadDeadline bounds reading the body; up to a beat late, but for one that is over.
func (w *response) SetReadDeadline(t time.Time) error {
	w.conn.deadline(&w.conn.reading, t, w.conn.SetReadDeadline)
	return nil
}

// SetWriteDeadline bounds writing the answer in the same way.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.conn.deadline(&w.conn.writing, t, w.conn.SetWriteDeadline)
	return nil
}
