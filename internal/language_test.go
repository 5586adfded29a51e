package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// banned are words and forms that the documents avoid: a viewer, a client or a publisher is "it" or "they", a sentence
// has a subject, and the words are those of today. CONTRIBUTING.md has the rules.
var banned = []*regexp.Regexp{
	regexp.MustCompile(`(?i)\b(?:he|him|his)\b`),
	regexp.MustCompile(`(?:^|[.:|] )Who [^?|]*(?:[.|]|$)`), // "Who waits gets it.", but not a question
	regexp.MustCompile(`(?i)\banew\b`),
	regexp.MustCompile(`(?i)\bfor ever\b`),
	regexp.MustCompile(`(?i)\b(?:is|are) told\b`),
}

// terms are names that a banned form occurs in.
var terms = strings.NewReplacer("HE-AAC", "", "he-aac", "")

// bannedIn returns the first banned form in a line, "" when there is none.
func bannedIn(line string) string {
	line = terms.Replace(line)
	for _, b := range banned {
		if m := b.FindString(line); m != "" {
			return m
		}
	}
	return ""
}

// TestLanguage holds the documents to plain technical English. It does not look at code and quoted texts.
func TestLanguage(t *testing.T) {
	for _, file := range filesWith(t, ".md") {
		if strings.Contains(file, "CONTRIBUTING.md") { // which lists the words
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// What is left out keeps its line breaks, so that the numbers of lines are right.
		prose := mdCode.ReplaceAllStringFunc(string(text), func(code string) string {
			return strings.Repeat("\n", strings.Count(code, "\n"))
		})
		n := 0
		for line := range strings.Lines(prose) {
			n++
			if m := bannedIn(strings.TrimSpace(line)); m != "" {
				t.Errorf("%s:%d: %q is not plain technical English: see CONTRIBUTING.md", file, n, m)
			}
		}
	}
}

// TestLanguageOfCode holds comments and texts in Go to the same rules.
func TestLanguageOfCode(t *testing.T) {
	fset := token.NewFileSet()
	for _, file := range filesWith(t, ".go") {
		if filepath.Base(file) == "language_test.go" { // which lists the words
			continue
		}
		f, err := parser.ParseFile(fset, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		report := func(pos token.Pos, text string) {
			for line := range strings.Lines(text) {
				if m := bannedIn(strings.TrimSpace(line)); m != "" {
					t.Errorf("%s: %q is not plain technical English: see CONTRIBUTING.md", fset.Position(pos), m)
				}
			}
		}
		for _, group := range f.Comments {
			for _, c := range group.List {
				report(c.Pos(), strings.TrimLeft(c.Text, "/* "))
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil {
				report(lit.Pos(), text)
			}
			return true
		})
	}
}

// TestBannedForms shows what the patterns find, so that TestLanguage can fail.
// webComment is a comment of TypeScript, JavaScript or Svelte, and not the "//" of a URL.
var webComment = regexp.MustCompile(`(?:^|[^:])//(.*)|^\s*/?\*+(.*)`)

// TestLanguageOfWeb holds comments of the player, the console and the scripts of tests to the same rules.
func TestLanguageOfWeb(t *testing.T) {
	for _, ext := range []string{".ts", ".svelte", ".mjs", ".js"} {
		for _, file := range filesWith(t, ext) {
			if strings.Contains(file, "/dist/") { // built
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for line := range strings.Lines(string(text)) {
				n++
				if m := webComment.FindStringSubmatch(line); m != nil && bannedIn(strings.TrimSpace(m[1]+m[2])) != "" {
					t.Errorf("%s:%d: %q is not plain technical English: see CONTRIBUTING.md", file, n, line)
				}
			}
		}
	}
}

func TestBannedForms(t *testing.T) {
	for line, want := range map[string]bool{
		"A viewer that waits sees his frames late.":             true,
		"Then he is closed.":                                    true,
		"Who waits for a name leaves nothing behind.":           true,
		"It is closed. Who comes later waits.":                  true,
		"| `auth` | Who may publish. |":                         true,
		"The table is written anew.":                            true,
		"It stays for ever.":                                    true,
		"The client is told why.":                               true,
		"HE-AAC has two sample rates.":                          false,
		"Who may publish?":                                      false,
		"The publisher, not the viewer, decides; they are one.": false,
		"The rest of this history":                              false,
	} {
		if got := bannedIn(line) != ""; got != want {
			t.Errorf("%q: banned %v, want %v", line, got, want)
		}
	}
}
