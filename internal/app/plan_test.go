package app

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"testing"

	"livego/internal/ops/config"
)

// TestReloadMapsEverySetting checks that code which runs at each reload reads every setting that is not
// marked restart: functions that get a config.Config or a plan, and the goroutine of reloads.
func TestReloadMapsEverySetting(t *testing.T) {
	used := map[string]bool{}
	for _, name := range []string{"plan.go", "reload.go", "limits.go", "options.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !runsAtReload(f) {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					used[s.Sel.Name] = true
				}
				return true
			})
		}
	}
	var check func(typ reflect.Type, block string)
	check = func(typ reflect.Type, block string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			reload, ok := f.Tag.Lookup("reload")
			switch {
			case ok && config.Reload(reload) != config.ReloadRestart && !used[f.Name]:
				t.Errorf("no reload reads %s%s, which is marked %s", block, f.Name, reload)
			case !ok && f.Type.Kind() == reflect.Struct:
				check(f.Type, f.Name+".")
			}
		}
	}
	check(reflect.TypeFor[config.Config](), "")
}

// runsAtReload reports whether f has a parameter of type config.Config or *plan, or serves reloads.
func runsAtReload(f *ast.FuncDecl) bool {
	if f.Name.Name == "runReloads" {
		return true
	}
	for _, p := range f.Type.Params.List {
		switch typ := p.Type.(type) {
		case *ast.SelectorExpr:
			if typ.Sel.Name == "Config" {
				return true
			}
		case *ast.StarExpr:
			if id, ok := typ.X.(*ast.Ident); ok && id.Name == "plan" {
				return true
			}
		}
	}
	return false
}
