package internal_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// literals says which string literals of the code are an interface that scripts and players use.
// Each kind is found by what it looks like, wherever it is declared, so that the list does not
// change when code is renamed or moved.
var literals = map[string]*regexp.Regexp{
	"route": regexp.MustCompile(`^(?:[A-Z]+ )?/(?:control|stat|statics|api|healthz|readyz|metrics|debug|crossdomain)` +
		`[\w/{}.*-]*$`),
	"rtmp code":      regexp.MustCompile(`^Net(?:Stream|Connection)\.[A-Za-z.]+$`),
	"event":          regexp.MustCompile(`^(?:stream|viewer|recording|relay)\.[a-z_]+$`),
	"file":           regexp.MustCompile(`^(?:livego\.(?:db|yaml)|admin\.token|index\.m3u8|ts\.m3u8|crossdomain\.xml)$`),
	"HLS tag":        regexp.MustCompile(`^#EXT[A-Z0-9-]*`),
	"metric":         regexp.MustCompile(`^livego_[a-z0-9_]+$`),
	"webhook header": regexp.MustCompile(`^Livego-[A-Za-z-]+$`),
}

// TestLiterals holds the interfaces that the code spells out as literals to testdata/literals.txt:
// JSON fields (tags), settings (tags), routes, RTMP codes, events, metrics, file names. A line that
// disappears breaks somebody's script. New lines are added with -update.
func TestLiterals(t *testing.T) {
	found := map[string]bool{}
	fset := token.NewFileSet()
	for _, p := range listPackages(t) {
		if !strings.HasPrefix(p.path, "internal/") && !strings.HasPrefix(p.path, "cmd/") {
			continue
		}
		files, err := filepath.Glob(filepath.Join(root, p.path, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Field:
					addTags(found, n)
				case *ast.BasicLit:
					addLiteral(found, n)
				}
				return true
			})
		}
	}
	now := slices.Sorted(maps.Keys(found))
	golden := filepath.Join("testdata", "literals.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(now, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, line := range want {
		if !found[line] {
			t.Errorf("%s is gone: scripts that use it break", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(want, line) {
			t.Errorf("%s is new: add it with go test ./internal -run TestLiterals -update", line)
		}
	}
}

// addTags adds the names by which a field is written in JSON and in the settings.
func addTags(found map[string]bool, field *ast.Field) {
	if field.Tag == nil {
		return
	}
	raw, err := strconv.Unquote(field.Tag.Value)
	if err != nil {
		return
	}
	tag := reflect.StructTag(raw)
	for key, kind := range map[string]string{
		"json": "JSON field", "key": "setting", "old": "setting", "query": "parameter", "path": "path parameter",
	} {
		name, _, _ := strings.Cut(tag.Get(key), ",")
		if name != "" && name != "-" {
			found[kind+": "+name] = true
		}
	}
}

// addLiteral adds a string literal of one of the kinds.
func addLiteral(found map[string]bool, lit *ast.BasicLit) {
	if lit.Kind != token.STRING {
		return
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return
	}
	for kind, pattern := range literals {
		if m := pattern.FindString(s); m != "" {
			found[kind+": "+m] = true
		}
	}
}
