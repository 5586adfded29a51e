package internal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const root = ".."

var (
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	mdCode    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	mdMarkup  = regexp.MustCompile("[*`]|\\[([^]]*)\\]\\([^)]*\\)")
)

// TestLinks checks that each relative link in a Markdown file leads to a file, and its fragment to a heading.
func TestLinks(t *testing.T) {
	for _, file := range filesWith(t, ".md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mdLink.FindAllStringSubmatch(mdCode.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], ":") { // another site, or mail
				continue
			}
			path, fragment, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: no such file", file, m[1])
			} else if fragment != "" && strings.HasSuffix(target, ".md") && !anchors(t, target)[fragment] {
				t.Errorf("%s: link to %s: no such heading", file, m[1])
			}
		}
	}
}

// filesWith lists the files of the repository with that extension, such as ".md", without test data
// and what tools install.
func filesWith(t *testing.T, ext string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root &&
			(strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ext {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// anchors returns the fragments that GitHub makes of the headings of file; a repeated heading has only its first.
func anchors(t *testing.T, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fenced := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(string(text), "")
	found := map[string]bool{}
	for _, m := range mdHeading.FindAllStringSubmatch(fenced, -1) {
		found[slug(m[1])] = true
	}
	return found
}

func slug(heading string) string {
	heading = mdMarkup.ReplaceAllString(heading, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
