package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load reads the configuration file at path over the defaults, and checks all of it.
// Settings that the file leaves out keep their defaults; lists, the environments and
// their regions above all, replace the default ones. Addresses that stay open come from
// the block of ports that starts at port (0: free ports).
//
// An empty path means the defaults. A dir that isn't empty wins over the file's data
// folder, and a database for stores over its stores.dsn. What is wrong with the file is told at once, in an error of type [*Mistakes].
func Load(path string, port int, dir, stores string) (*Config, error) {
	c, f := seedSystem(), newFindings()
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w; without --config the defaults are used", err)
		}
		if err := f.read(data, c); err != nil {
			return nil, &Mistakes{File: path, List: []Mistake{*err}}
		}
	}
	if dir != "" {
		c.Data = dir
	}
	if stores != "" {
		c.Stores.DSN = stores
	}
	c.fill(port)
	f.check(c)
	if err := f.err(path); err != nil {
		return nil, err
	}
	return c, nil
}

// read decodes the file over c. It fails only where the file isn't YAML; all other
// mistakes are noted.
func (f *findings) read(data []byte, c *Config) *Mistake {
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := documents.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil // an empty file
	case err != nil:
		return syntax(err)
	}
	f.decode("", document.Content[0], reflect.ValueOf(c).Elem())
	var second yaml.Node
	switch err := documents.Decode(&second); {
	case err == nil:
		return &Mistake{Line: second.Line, Text: `a second document starts here: keep one, without a line "---" in between`}
	case !errors.Is(err, io.EOF):
		return syntax(err)
	}
	return nil
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// syntax takes the line out of the YAML library's text, to tell it as we do.
func syntax(err error) *Mistake {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	m := Mistake{}
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		m.Line, _ = strconv.Atoi(found[1]) // digits, by the expression
		text = text[len(found[0]):]
	}
	m.Text = "is not YAML: " + text + ". Indent with spaces, and put quotes around texts with \":\" or \"#\" in them"
	return &m
}
