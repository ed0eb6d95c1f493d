package snapshot

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"
)

// readPlain reads a row that is written as most are: a JSON object without spaces whose members
// are the columns, each once, with whole numbers and text. Of any other one it says so, and
// leaves it to a parser that knows all of JSON: what it reads, that one reads in the same way.
func (c columns) readPlain(to []any, data []byte) ([]any, bool) {
	start := len(to)
	for range c.names {
		to = append(to, nil)
	}
	values := to[start:]
	for n := range c.names {
		open := byte(',')
		if n == 0 {
			open = '{'
		}
		name, rest, ok := plainText(data, open)
		if !ok || len(rest) == 0 || rest[0] != ':' {
			return to, false
		}
		i := slices.Index(c.names, string(name))
		if i < 0 || values[i] != nil {
			return to, false
		}
		if data, ok = plainValue(&values[i], rest[1:], c.numbers[i]); !ok {
			return to, false
		}
	}
	return to, len(data) == 1 && data[0] == '}'
}

// plainText reads an opening byte and a quoted text without escapes.
func plainText(data []byte, open byte) (text, rest []byte, ok bool) {
	if len(data) < 2 || data[0] != open || data[1] != '"' {
		return nil, nil, false
	}
	data = data[2:]
	end := bytes.IndexByte(data, '"')
	if end < 0 || bytes.IndexByte(data[:end], '\\') >= 0 {
		return nil, nil, false
	}
	return data[:end], data[end+1:], true
}

// plainValue reads a value of a column of numbers, or of one of text.
func plainValue(to *any, data []byte, number bool) (rest []byte, ok bool) {
	if !number {
		end := textEnd(data)
		if end < 0 {
			return nil, false
		}
		text := data[1:end]
		if bytes.IndexByte(text, '\\') >= 0 {
			var unescaped string
			if json.Unmarshal(data[:end+1], &unescaped) != nil {
				return nil, false
			}
			*to, ok = valueOf(unescaped, false)
			return data[end+1:], ok
		}
		if !utf8.Valid(text) || bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
			return nil, false
		}
		*to = string(text)
		return data[end+1:], true
	}
	end := 0
	for end < len(data) && (data[end] == '-' && end == 0 || '0' <= data[end] && data[end] <= '9') {
		end++
	}
	digits := bytes.TrimPrefix(data[:end], []byte("-"))
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' {
		return nil, false
	}
	n, err := strconv.ParseInt(string(data[:end]), 10, 64)
	*to = n
	return data[end:], err == nil
}

// textEnd is where the quote stands that ends the text that the data begin with; -1 where none
// does.
func textEnd(data []byte) int {
	if len(data) == 0 || data[0] != '"' {
		return -1
	}
	for i := 1; ; i++ {
		next := bytes.IndexAny(data[i:], `"\`)
		if next < 0 {
			return -1
		}
		if i += next; data[i] == '"' {
			return i
		}
		if i++; i >= len(data) { // what is escaped ends nothing
			return -1
		}
	}
}
