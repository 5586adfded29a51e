package internal_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// group returns the group of packages that a package belongs to: the directory below internal.
func group(path string) string {
	path = strings.TrimPrefix(path, "internal/")
	first, _, _ := strings.Cut(path, "/")
	return first
}

// picture returns a Mermaid flowchart of the groups below internal and of the imports between them,
// tests not counted. Every group may import domain and media, so those arrows are left out, and so
// are the arrows from app, which imports every group.
func picture(pkgs []pkg) string {
	arrows, groups := map[string]bool{}, map[string]bool{}
	for _, p := range pkgs {
		from := group(p.path)
		if !strings.HasPrefix(p.path, "internal/") || from == "app" {
			continue
		}
		groups[from] = true
		for _, imp := range p.Imports {
			to := group(imp)
			if !strings.HasPrefix(imp, "internal/") || to == from || to == "domain" || to == "media" {
				continue
			}
			arrows[fmt.Sprintf("    %s --> %s\n", from, to)] = true
		}
	}
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintf(&b, "    %s\n", g)
	}
	for _, a := range slices.Sorted(maps.Keys(arrows)) {
		b.WriteString(a)
	}
	return b.String()
}

// TestPicture holds the picture of the packages in docs/ARCHITECTURE.md to the imports. -update writes it.
func TestPicture(t *testing.T) {
	file := filepath.Join(root, "docs", "ARCHITECTURE.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```mermaid\n.*?```")
	want := "```mermaid\n" + picture(listPackages(t)) + "```"
	got := block.FindString(string(text))
	if got == "" {
		t.Fatal("docs/ARCHITECTURE.md has no picture")
	}
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("the picture is not that of the imports: go test ./internal -run TestPicture -update\n%s", want)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), got, want, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// maxWayPackages is the most packages that a frame goes through from an encoder to RTMP viewers.
const maxWayPackages = 6

// TestWayOfFrame holds the tables of a frame's way in docs/ARCHITECTURE.md to the code: each package
// is entered once, its functions exist, and it imports no package of a later row. The way to RTMP
// viewers leads through maxWayPackages at most; that to HLS continues it after the steps that both share.
func TestWayOfFrame(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("\n## The life of a video frame\n"))
	section, _, _ := bytes.Cut(text, []byte("\n## "))
	imports := map[string][]string{}
	for _, p := range listPackages(t) {
		imports[p.path] = p.Imports
	}
	row := regexp.MustCompile("(?m)^\\| (\\d+) \\| `(internal/[\\w/]+)` \\|.*\\| (`[^|]*`) \\|$")
	var way []string
	tables := 0
	for _, m := range row.FindAllStringSubmatch(string(section), -1) {
		step, dir := m[1], m[2]
		n, _ := strconv.Atoi(step)
		if n == 1 || n <= len(way) {
			tables++
			way = way[:min(n-1, len(way))]
		}
		if n != len(way)+1 || slices.Contains(way, dir) {
			t.Fatalf("step %s, %s: the package is entered again, or a step is missing, after %v", step, dir, way)
		}
		if tables == 1 && n > maxWayPackages {
			t.Errorf("step %s, %s: a frame goes through more than %d packages", step, dir, maxWayPackages)
		}
		for _, before := range way {
			if before == "internal/edge/rtmp" || before == "internal/edge/hls" { // edges connect all others
				continue
			}
			if slices.Contains(imports[before], dir) {
				t.Errorf("step %s: %s imports %s, which comes later", step, before, dir)
			}
		}
		way = append(way, dir)
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[3], -1) {
			if !declares(t, dir, name[1]) {
				t.Errorf("step %s: %s has no %s", step, dir, name[1])
			}
		}
	}
	if tables != 2 {
		t.Errorf("the section has %d tables with steps, want 2: to RTMP viewers and to HLS", tables)
	}
}

// declares reports whether a package has a function, or a method in the form Type.Method.
func declares(t *testing.T, dir, name string) bool {
	t.Helper()
	pattern := `(?m)^func ` + name + `[(\[]`
	if typ, method, ok := strings.Cut(name, "."); ok {
		pattern = `(?m)^func \(\w+ \*?` + typ + `\) ` + method + `\(`
	}
	declaration := regexp.MustCompile(pattern)
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && !strings.HasSuffix(file, "_test.go") && declaration.Match(text)
	})
}

// TestNoCyclesBetweenGroups walks along the imports from each group: none leads back.
func TestNoCyclesBetweenGroups(t *testing.T) {
	imports := map[string]map[string]bool{}
	for _, p := range listPackages(t) {
		from := group(p.path)
		if !strings.HasPrefix(p.path, "internal/") {
			continue
		}
		if imports[from] == nil {
			imports[from] = map[string]bool{}
		}
		for _, imp := range p.Imports {
			if to := group(imp); strings.HasPrefix(imp, "internal/") && to != from {
				imports[from][to] = true
			}
		}
	}
	for start := range imports {
		seen := map[string]bool{}
		var walk func(string)
		walk = func(g string) {
			for next := range imports[g] {
				if next == start {
					t.Errorf("%s is imported by a group that it imports: %s", start, g)
				}
				if !seen[next] {
					seen[next] = true
					walk(next)
				}
			}
		}
		walk(start)
	}
}

// TestNoUnusedAllowance finds entries of mayImport and owners that no import needs.
func TestNoUnusedAllowance(t *testing.T) {
	used, owned := map[string]bool{}, map[string]bool{}
	for _, p := range listPackages(t) {
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for _, a := range mayImport[p.path] {
				if matches(imp, []string{a}) {
					used[p.path+" "+a] = true
				}
			}
			for m, by := range owners {
				for _, o := range by {
					if inModules(imp, []string{m}) && matches(p.path, []string{o}) {
						owned[m+" "+o] = true
					}
				}
			}
		}
	}
	for path, allowed := range mayImport {
		for _, a := range allowed {
			if !used[path+" "+a] {
				t.Errorf("%s may import %s, and does not", path, a)
			}
		}
	}
	for m, by := range owners {
		for _, o := range by {
			if !owned[m+" "+o] {
				t.Errorf("%s may import %s, and does not", o, m)
			}
		}
	}
}
