package structure

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// "doc.go in each package: what it is for, what it refuses to do, how data flows."
func TestPackageComments(t *testing.T) {
	packages := map[string]bool{} // by folder: has its doc.go a package comment
	for _, f := range files(t) {
		if f.Top() == "deps" && path.Base(f.Path) != "doc.go" && len(f.Syntax.Decls) == 1 {
			continue // a list of imports behind a build tag is no package that anybody uses
		}
		if !packages[f.Package] {
			packages[f.Package] = false
		}
		if path.Base(f.Path) != "doc.go" {
			if f.Syntax.Doc != nil && !f.Test {
				t.Errorf("%s: the package comment stands in doc.go, and only there", f.Path)
			}
			continue
		}
		packages[f.Package] = true
		text := f.Syntax.Doc.Text()
		start := "Package " + f.Syntax.Name.Name + " "
		if f.Syntax.Name.Name == "main" {
			start = "Command " + path.Base(f.Package) + " "
		}
		if !strings.HasPrefix(text, start) {
			t.Errorf("%s: the package comment must start with %q", f.Path, start)
		}
		if len(strings.Fields(text)) < 20 {
			t.Errorf("%s: say what the package is for, and what it never does", f.Path)
		}
	}
	for name, documented := range packages {
		if !documented {
			t.Errorf("the package %s has no doc.go", name)
		}
	}
}

// Wiring is visible: nothing registers itself on import.
func TestNoInit(t *testing.T) {
	for _, f := range files(t) {
		for _, d := range f.Syntax.Decls {
			if fn, is := d.(*ast.FuncDecl); is && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init() does its work behind the reader's back; call it from stack or main", f.Positions.Position(fn.Pos()))
			}
		}
	}
}

// Tests wait for conditions: a sleep is too long on one machine and too short on another.
// In a synctest bubble it is neither.
func TestNoSleepsInTests(t *testing.T) {
	for _, f := range files(t) {
		if !f.Test || slices.Contains(f.Imports, "testing/synctest") {
			continue
		}
		for _, place := range callsOf(f, "time", "Sleep") {
			t.Errorf("%s: a test sleeps; let it wait for a condition", place)
		}
	}
}

// The command is one small file a subcommand, around a main that shows the whole.
func TestMainIsShort(t *testing.T) {
	const limit = 40
	for _, f := range files(t) {
		if f.Path != "cmd/mpr/main.go" {
			continue
		}
		if lines := f.Positions.Position(f.Syntax.End()).Line; lines > limit {
			t.Errorf("%s has %d lines; %d are enough", f.Path, lines, limit)
		}
	}
}

// callsOf are the places where a file calls functions of a package of the standard
// library.
func callsOf(f sourceFile, pkg string, functions ...string) []string {
	var places []string
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		called, is := n.(*ast.CallExpr)
		if !is {
			return true
		}
		selector, is := called.Fun.(*ast.SelectorExpr)
		if !is {
			return true
		}
		if x, is := selector.X.(*ast.Ident); is && x.Name == pkg && slices.Contains(functions, selector.Sel.Name) {
			places = append(places, fmt.Sprintf("%s:%d: %s.%s", f.Path, f.Positions.Position(n.Pos()).Line, pkg, selector.Sel.Name))
		}
		return true
	})
	return places
}
