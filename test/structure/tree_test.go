package structure

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// root is the top folder of the repository.
const root = "../.."

// sourceFile is a Go file of ours.
type sourceFile struct {
	// Path is relative to the root; Package is its folder.
	Path, Package string
	Test          bool
	Imports       []string
	Syntax        *ast.File
	Positions     *token.FileSet
}

// Top is the top-level folder that the file stands in.
func (f sourceFile) Top() string { return top(f.Package) }

func top(pkg string) string {
	first, _, _ := strings.Cut(pkg, "/")
	return first
}

var (
	parsing sync.Once
	parsed  []sourceFile
)

// files are all Go files of ours, which nobody changes.
func files(t *testing.T) []sourceFile {
	t.Helper()
	parsing.Do(func() { parsed = parse(t) })
	if len(parsed) == 0 {
		t.Fatal("found no Go files")
	}
	return parsed
}

func parse(t *testing.T) (all []sourceFile) {
	t.Helper()
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		positions := token.NewFileSet()
		syntax, err := parser.ParseFile(positions, filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		f := sourceFile{Path: name, Package: path.Dir(name), Test: strings.HasSuffix(name, "_test.go"), Syntax: syntax, Positions: positions}
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			f.Imports = append(f.Imports, imported)
		}
		all = append(all, f)
	})
	return all
}

// walk calls visit with the path of each file of the repository, relative to the root,
// with slashes. It leaves out what git ignores.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	ignored := []string{".git", "bin", "dist", "mpr-data", "node_modules", "testdata"}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(ignored, entry.Name()):
			return fs.SkipDir
		case !entry.IsDir():
			visit(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// exists says whether a file or folder is in the repository.
func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return !errors.Is(err, fs.ErrNotExist)
}
