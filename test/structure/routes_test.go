package structure

import (
	"fmt"
	"go/ast"
	"slices"
	"testing"
)

// The routes that the control role answers without knowing who asks; all others stand in its table,
// each with the role that it takes.
var openRoutes = []string{"home", "beginSignIn", "endSignIn", "signOut", "redeem", "tellSignIn"}

// "Roles checked on every admin API route by one table": nothing else puts a route into a mux.
func TestRoutesStandInTheTable(t *testing.T) {
	found := 0
	for _, f := range files(t) {
		if f.Package != "control" || f.Test {
			continue
		}
		for _, d := range f.Syntax.Decls {
			fn, is := d.(*ast.FuncDecl)
			if !is {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				call, is := n.(*ast.CallExpr)
				if !is {
					return true
				}
				selector, is := call.Fun.(*ast.SelectorExpr)
				if !is || selector.Sel.Name != "Handle" && selector.Sel.Name != "HandleFunc" || len(call.Args) != 2 {
					return true
				}
				found++
				at := fmt.Sprintf("%s:%d", f.Path, f.Positions.Position(n.Pos()).Line)
				switch name := handlerName(call.Args[1]); {
				case fn.Name.Name == "routes" && name == "guard":
				case fn.Name.Name == "openRoutes" && slices.Contains(openRoutes, name):
				default:
					t.Errorf("%s: a route is answered by %q: put it into the table in control/routes.go, with the role that it takes", at, name)
				}
				return true
			})
		}
	}
	if found != len(openRoutes)+1 {
		t.Errorf("found %d routes beside the table, want %d", found-1, len(openRoutes))
	}
}

// handlerName is the method that answers: s.redeem, s.page(s.home), s.guard(...).
func handlerName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.CallExpr:
		if name := handlerName(e.Fun); name != "page" || len(e.Args) != 1 {
			return name
		}
		return handlerName(e.Args[0])
	}
	return "?"
}
