package internal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

const root = ".."

var (
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	mdCode    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	mdImage   = regexp.MustCompile(`\b(?:src|srcset)="([^"]+)"`)
	mdMarkup  = regexp.MustCompile("[*`]|\\[([^]]*)\\]\\([^)]*\\)")
)

// TestLinks checks that each relative link in a Markdown file leads to a file, and its fragment to a heading. Pictures
// are links too.
func TestLinks(t *testing.T) {
	for _, file := range filesWith(t, ".md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		prose := mdCode.ReplaceAllString(string(text), "")
		for _, m := range append(mdLink.FindAllStringSubmatch(prose, -1), mdImage.FindAllStringSubmatch(prose, -1)...) {
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
			} else if fragment != "" && strings.HasSuffix(target, ".md") && !slices.Contains(headingsOf(t, target), fragment) {
				t.Errorf("%s: link to %s: no such heading", file, m[1])
			}
		}
	}
}

// TestImages checks that each picture in docs/images is shown by a page, and that they stay small.
func TestImages(t *testing.T) {
	const maxBytes, maxTotal = 60_000, 1_100_000
	shown := map[string]bool{}
	for _, file := range filesWith(t, ".md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mdImage.FindAllStringSubmatch(string(text), -1) {
			shown[filepath.Join(filepath.Dir(file), m[1])] = true
		}
	}
	var total int64
	for _, file := range filesWith(t, ".webp") {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if total += info.Size(); info.Size() > maxBytes {
			t.Errorf("%s has %d bytes, want at most %d", file, info.Size(), maxBytes)
		}
		if !shown[file] {
			t.Errorf("no page shows %s", file)
		}
	}
	if total == 0 || total > maxTotal {
		t.Errorf("the pictures have %d bytes, want at most %d, and some", total, maxTotal)
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

// headingsOf returns the fragments that GitHub makes of the headings of file; a repeated heading has its first only.
func headingsOf(t *testing.T, file string) (fragments []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fenced := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(string(text), "")
	for _, m := range mdHeading.FindAllStringSubmatch(fenced, -1) {
		fragments = append(fragments, slug(m[1]))
	}
	return fragments
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
