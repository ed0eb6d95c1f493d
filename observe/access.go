package observe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// AccessLog says where calls are logged, as lines of JSON.
type AccessLog struct {
	// File is appended to; "-" is standard output, "" writes none.
	File string
	// Share is how many of the calls that were neither refused nor failed are logged, from 0 to 1.
	// The others always are.
	Share float64
}

const (
	// maxLines is how many lines wait to be written; more are lost, and counted.
	maxLines = 4096
	// flushEvery is how long a line may wait in memory.
	flushEvery = 200 * time.Millisecond
)

// accessLog writes lines from a goroutine of its own, so that a disk that is slow holds up no
// call. A nil one writes nothing.
type accessLog struct {
	share         float64
	logger        *slog.Logger
	lines         chan []byte
	written, lost prometheus.Counter
	file          *os.File
	work          sync.WaitGroup
	mu            sync.RWMutex // guards closed
	closed        bool
}

func openAccessLog(o AccessLog, lines *prometheus.CounterVec) (*accessLog, error) {
	if o.File == "" {
		return nil, nil //nolint:nilnil // nothing is to be written
	}
	a := &accessLog{
		share: o.Share, lines: make(chan []byte, maxLines), file: os.Stdout,
		written: lines.WithLabelValues("written"), lost: lines.WithLabelValues("lost"),
	}
	if o.File != "-" {
		f, err := os.OpenFile(o.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640) //nolint:gosec // the operator names it; a group may read logs
		if err != nil {
			return nil, fmt.Errorf("open the access log: %w", err)
		}
		a.file = f
	}
	a.logger = slog.New(slog.NewJSONHandler(lineWriter{a}, nil))
	a.work.Go(a.write)
	return a, nil
}

// wants says whether the call is logged.
func (a *accessLog) wants(c *Call) bool {
	return a != nil && (c.Reason != "" || c.Status >= 500 || a.share >= 1 || rand.Float64() < a.share) //nolint:gosec // a lot is no secret
}

// log logs a call. Members that aren't known are left out.
func (a *accessLog) log(d *Door, c *Call, took time.Duration) {
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs, slog.String("role", d.role), slog.String("environment", d.environment), slog.String("door", d.door),
		slog.String("request_id", c.RequestID), slog.String("remote", c.Remote), slog.String("method", c.Method), slog.String("path", clipped(c.Path)),
		slog.Int("status", c.Status), slog.Float64("ms", float64(took.Microseconds())/1000))
	for _, member := range []struct{ name, value string }{{"app", c.ClientID}, {"region", string(c.Region)}, {"reason", string(c.Reason)}} {
		if member.value != "" {
			attrs = append(attrs, slog.String(member.name, member.value))
		}
	}
	if c.Company != 0 {
		attrs = append(attrs, slog.Int64("company", int64(c.Company)))
	}
	a.logger.LogAttrs(context.Background(), slog.LevelInfo, "call", attrs...)
}

// lineWriter takes lines of the JSON handler, each by one Write.
type lineWriter struct{ log *accessLog }

func (w lineWriter) Write(line []byte) (int, error) {
	a := w.log
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed {
		a.lost.Inc()
		return len(line), nil
	}
	select {
	case a.lines <- append([]byte(nil), line...): // the handler uses its buffer again
	default:
		a.lost.Inc()
	}
	return len(line), nil
}

// write writes lines until there are no more.
func (a *accessLog) write() {
	out := bufio.NewWriterSize(a.file, 64<<10)
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	failing := false
	note := func(err error) {
		if err != nil && !failing {
			slog.Error("the access log can't be written; calls go on", "error", err)
		}
		failing = err != nil
		if err != nil {
			out.Reset(a.file) // a bufio.Writer keeps its first error
		}
	}
	for {
		select {
		case line, ok := <-a.lines:
			if !ok {
				note(out.Flush())
				return
			}
			if _, err := out.Write(line); err != nil {
				a.lost.Inc()
				note(err)
				continue
			}
			a.written.Inc()
		case <-flush.C:
			note(out.Flush())
		}
	}
}

func (a *accessLog) close() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	close(a.lines)
	a.mu.Unlock()
	a.work.Wait()
	if a.file == os.Stdout {
		return nil
	}
	if err := errors.Join(a.file.Sync(), a.file.Close()); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("close the access log: %w", err)
	}
	return nil
}

// mostPath is how much of a path is logged: a stranger may send one that is far longer, as often as it
// likes.
const mostPath = 1 << 10

func clipped(path string) string {
	if len(path) <= mostPath {
		return path
	}
	return strings.ToValidUTF8(path[:mostPath], "") + "..."
}
