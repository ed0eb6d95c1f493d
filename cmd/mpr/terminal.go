package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"golang.org/x/term"
)

// terminal is where a command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

// answer writes what a command has to say: v as JSON on one line, or the text.
func (t *terminal) answer(asJSON bool, v any, text func(io.Writer)) error {
	if asJSON {
		return writeLine(t.out, v)
	}
	w := bufio.NewWriter(t.out)
	text(w)
	return w.Flush()
}

// writeLine writes v as one line of JSON.
func writeLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table writes rows below a header, in columns.
func table(w io.Writer, header []string, rows [][]string) {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(columns, strings.Join(header, "\t")) // a bufio.Writer keeps the error until Flush
	for _, row := range rows {
		row = append(row, make([]string, max(len(header)-len(row), 0))...)
		_, _ = fmt.Fprintln(columns, strings.Join(printable(row), "\t"))
	}
	_ = columns.Flush()
}

// list writes names and values in two columns; values that are "" are left out.
func list(w io.Writer, pairs ...string) {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			_, _ = fmt.Fprintf(columns, "%s\t%s\n", pairs[i], printable(pairs[i+1 : i+2])[0])
		}
	}
	_ = columns.Flush()
}

// next suggests what to do next.
func next(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, "\nNEXT: "+format+"\n", args...)
}

// printable takes out of cells what would break columns or steer the terminal: names
// come from anybody.
func printable(cells []string) []string {
	out := make([]string, len(cells))
	for i, s := range cells {
		out[i] = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return '?'
			}
			return r
		}, s)
	}
	return out
}

// progress shows a line in place of the one that it showed before; "" takes it away. Where
// lines can't be replaced it shows nothing.
func (t *terminal) progress(line string) {
	if !t.replacesLines() {
		return
	}
	width := 80
	if file, ok := t.err.(*os.File); ok {
		if w, _, err := term.GetSize(int(file.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	_, _ = fmt.Fprint(t.err, "\r\x1b[K", shorten(line, width-1)) // whoever has left misses nothing
}

// replacesLines says whether a person looks on.
func (t *terminal) replacesLines() bool {
	file, ok := t.err.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// shorten cuts a line to so many characters: one that a terminal breaks can't be taken back.
func shorten(line string, width int) string {
	if r := []rune(line); len(r) > width {
		return string(r[:max(width-3, 0)]) + "..."
	}
	return line
}

// confirm asks a question that only a person may answer.
func (t *terminal) confirm(question string) (bool, error) {
	file, ok := t.in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return false, errors.New("this needs a confirmation and nobody is there to ask: add --yes")
	}
	if _, err := fmt.Fprintf(t.err, "%s [y/N] ", question); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(t.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the confirmation: %w", err)
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes", nil
}
