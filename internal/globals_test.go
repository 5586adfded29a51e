package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNoMutableGlobals checks that package variables are constant tables, assigned only where they are
// declared. State is in fields, so that two servers fit in one process and tests run in parallel.
func TestNoMutableGlobals(t *testing.T) {
	for _, p := range listPackages(t) {
		files, err := filepath.Glob(filepath.Join(root, p.path, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		var parsed []*ast.File
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
		}
		for _, id := range writtenGlobals(parsed) {
			t.Errorf("%s: package variable %s is changed or holds state", fset.Position(id.Pos()), id.Name)
		}
	}
}

// writtenGlobals returns where package variables of files are assigned to or have their address
// taken, and those whose type is state by itself (a lock, an atomic).
func writtenGlobals(files []*ast.File) []*ast.Ident {
	globals := map[string]bool{}
	var found []*ast.Ident
	for _, f := range files {
		for _, d := range f.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, s := range gen.Specs {
				v := s.(*ast.ValueSpec)
				for _, id := range v.Names {
					globals[id.Name] = true
					if isState(v.Type) {
						found = append(found, id)
					}
				}
			}
		}
	}
	for _, f := range files {
		// The parser resolves names within a file; an unresolved name may be declared in another file.
		isGlobal := func(id *ast.Ident) bool {
			return id != nil && globals[id.Name] &&
				(slices.Contains(f.Unresolved, id) || id.Obj != nil && f.Scope.Lookup(id.Name) == id.Obj)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			var targets []ast.Expr
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					targets = n.Lhs
				}
			case *ast.IncDecStmt:
				targets = []ast.Expr{n.X}
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					targets = []ast.Expr{n.X}
				}
			}
			for _, e := range targets {
				if id := rootIdent(e); isGlobal(id) {
					found = append(found, id)
				}
			}
			return true
		})
	}
	return found
}

// rootIdent returns x of x, x.f, x[i] and *x.
func rootIdent(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// isState reports whether t is a type of sync or sync/atomic. A sync.Pool holds no state.
func isState(t ast.Expr) bool {
	sel, ok := t.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && (pkg.Name == "atomic" || pkg.Name == "sync" && sel.Sel.Name != "Pool")
}

func TestWrittenGlobals(t *testing.T) {
	const src = `package p
var table = map[string]int{"a": 1}
var count int
var mu sync.Mutex
var list []int
var pool sync.Pool
func f() { count++; list = append(list, table["a"]); table := 1; table = 2; _ = table }
func g() { elsewhere.x[1] = 2; count := 1; count++ }
`
	const sibling = `package p
var elsewhere struct{ x []int }
`
	var files []*ast.File
	for _, s := range []string{src, sibling} {
		f, err := parser.ParseFile(token.NewFileSet(), "p.go", s, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	var got []string
	for _, id := range writtenGlobals(files) {
		got = append(got, id.Name)
	}
	if want := []string{"mu", "count", "list", "elsewhere"}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}
