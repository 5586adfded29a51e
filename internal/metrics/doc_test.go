package metrics

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md")

// TestMetricsDoc checks that the table of docs/metrics.md is that of the code. Run it with -update to
// write it.
func TestMetricsDoc(t *testing.T) {
	const start, end = "| metric | type | labels | description |\n", "\n\n"
	path := filepath.Join("..", "..", "docs", "metrics.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(start + "|---|---|---|---|")
	for _, f := range table {
		labels := ""
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "\n| `%s` | %s | %s | %s |", f.name, f.kind, labels, f.help)
	}
	before, rest, found := strings.Cut(string(doc), start)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no table of metrics", path)
	}
	want := before + b.String() + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(doc) != want {
		t.Errorf("%s is out of date: go test ./internal/metrics -run TestMetricsDoc -update", path)
	}
}
