package internal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// translations maps each page that has a Chinese translation to it, and the translation to the page.
func translations(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{"README.md": "README.zh.md", "README.zh.md": "README.md"}
	chinese, err := filepath.Glob(filepath.Join(root, "docs", "zh", "*.md"))
	if err != nil || len(chinese) == 0 {
		t.Fatalf("no pages in docs/zh: %v", err)
	}
	for _, path := range chinese {
		en, zh := "docs/"+filepath.Base(path), "docs/zh/"+filepath.Base(path)
		pages[en], pages[zh] = zh, en
	}
	return pages
}

func isChinese(page string) bool {
	return page == "README.zh.md" || strings.HasPrefix(page, "docs/zh/")
}

// TestTranslation checks that a page and its Chinese translation are in step. Both have headings of the same levels,
// the same code blocks, and tables of the same form, in the same order. Each section has as many list items, the same
// inline code, and the same links: to the translation where a page has one.
func TestTranslation(t *testing.T) {
	pages := translations(t)
	for en, zh := range pages {
		if isChinese(en) {
			continue
		}
		t.Run(zh, func(t *testing.T) {
			want, got := outline(t, en, pages), outline(t, zh, pages)
			for i := range max(len(want), len(got)) {
				if w, g := partAt(want, i), partAt(got, i); w.content != g.content {
					t.Fatalf("%s, %q has\n%s\nwant, as in %s, %q\n%s", zh, g.section, g.content, en, w.section, w.content)
				}
			}
		})
	}
}

// A part is something of a page that its translation must keep, and the heading above it.
type part struct{ section, content string }

func partAt(parts []part, i int) part {
	if i < len(parts) {
		return parts[i]
	}
	return part{content: "the end of the page"}
}

var (
	pageElement = regexp.MustCompile("(?ms)^(#+) |((?:^ *<!-- test[^\n]*\n)?^ *```.*?^ *```$)|" + // heading, code block
		"^(\\|[^\n]*)$|^ *(-|\\d\\d?\\.) ") // row of a table, list item
	inlineCode = regexp.MustCompile("`([^`]+)`")
)

// outline returns what a translation of page must keep, in order: the headings; the code blocks, with the mark before
// them; for each table row, the number of cells and the code in the first; and at the end of each section its list
// items, its inline code and its links.
func outline(t *testing.T, page string, pages map[string]string) (parts []part) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	text, section, bullets, numbers := string(file), 0, 0, 0
	add := func(format string, args ...any) {
		heading, _, _ := strings.Cut(text[section:], "\n")
		parts = append(parts, part{heading, fmt.Sprintf(format, args...)})
	}
	endSection := func(end int) {
		prose := regexp.MustCompile("(?ms)^ *```.*?^ *```$").ReplaceAllString(text[section:end], "")
		code := codeIn(prose)
		slices.Sort(code)
		var links []string
		for _, m := range mdLink.FindAllStringSubmatch(mdCode.ReplaceAllString(prose, ""), -1) {
			links = append(links, linkTarget(t, page, m[1], pages))
		}
		slices.Sort(links)
		add("%d list items with bullets and %d with numbers", bullets, numbers)
		add("this inline code: %q", slices.Compact(code))
		add("these links: %q", slices.Compact(links))
		section, bullets, numbers = end, 0, 0
	}
	for _, m := range pageElement.FindAllStringSubmatchIndex(text, -1) {
		group := func(i int) string { return text[max(m[2*i], 0):max(m[2*i+1], 0)] }
		switch {
		case group(1) != "":
			endSection(m[0])
			add("a heading %s", group(1))
		case group(2) != "":
			add("%s", group(2))
		case group(3) != "":
			cells := strings.Split(strings.ReplaceAll(group(3), `\|`, ""), "|")
			add("a row of %d cells with the code %q in the first", len(cells), codeIn(cells[1]))
		case group(4) == "-":
			bullets++
		default:
			numbers++
		}
	}
	endSection(len(text))
	return parts
}

// codeIn returns the texts in backticks.
func codeIn(text string) (code []string) {
	for _, m := range inlineCode.FindAllStringSubmatch(text, -1) {
		code = append(code, strings.Join(strings.Fields(m[1]), " "))
	}
	return code
}

// linkTarget returns where a link of a page leads, in a form that is the same in both languages: a page with a
// translation by the translation, and its headings by their positions. The positions are left out if the languages of
// that page are not in step, which the test of that page reports.
func linkTarget(t *testing.T, page, link string, pages map[string]string) string {
	t.Helper()
	if strings.Contains(link, ":") {
		return link
	}
	path, fragment, _ := strings.Cut(link, "#")
	target := page
	if path != "" {
		target = filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
	}
	translated := pages[target]
	switch {
	case translated == page:
		return "the other language"
	case translated == "":
		return strings.TrimSuffix(target+"#"+fragment, "#")
	}
	headings := headingsOf(t, filepath.Join(root, target))
	if fragment == "" || len(headings) != len(headingsOf(t, filepath.Join(root, translated))) {
		fragment = ""
	} else {
		fragment = fmt.Sprintf(", heading %d", slices.Index(headings, fragment)+1)
	}
	if !isChinese(page) {
		target = translated
	}
	return target + fragment
}
