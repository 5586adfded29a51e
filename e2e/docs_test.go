package e2e

import (
	"cmp"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// readDocument returns the text of a file of the checkout.
func readDocument(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// codeWord matches text in backticks.
var codeWord = regexp.MustCompile("`([^`\n]+)`")

// TestDocumentedSettings checks that each setting, error code and metric in the documents for users
// exists, and that each code is in docs/keys.md. docs/settings.md and docs/metrics.md are those of the
// code, which other tests check.
func TestDocumentedSettings(t *testing.T) {
	t.Parallel()
	var settings []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(readDocument(t,
		"docs/settings.md"), -1) {
		settings = append(settings, m[1])
	}
	if len(settings) < 40 {
		t.Fatalf("docs/settings.md has %d settings", len(settings))
	}
	codes := regexp.MustCompile(`(?m)^\t\w+\s+Code = "([a-z_]+)"`).FindAllStringSubmatch(readDocument(t,
		"internal/domain/error.go"), -1)
	if len(codes) < 10 {
		t.Fatalf("internal/domain/error.go has %d error codes", len(codes))
	}
	metrics := regexp.MustCompile("(?m)^\\| `(livego_[a-z_]+)` \\|").FindAllStringSubmatch(readDocument(t,
		"docs/metrics.md"), -1)
	if len(metrics) < 40 {
		t.Fatalf("docs/metrics.md has %d metrics", len(metrics))
	}
	known := slices.Clone(settings)
	for _, m := range metrics {
		known = append(known, m[1])
	}
	for _, m := range codes {
		if known = append(known, m[1]); !strings.Contains(readDocument(t, "docs/keys.md"), "`"+m[1]+"`") {
			t.Errorf("docs/keys.md does not describe %s", m[1])
		}
	}
	setting := regexp.MustCompile(`^[a-z]+(?:[_.][a-z]+)*(?:_[a-z]+)+(?:: .*)?$`) // "rtmp_addr", "gop_num: 1"
	pages := []string{"README.md", "README.zh.md", "docs/glossary.md"}
	for _, name := range []string{"files", "keys", "operating", "recording", "upgrading", "watching"} {
		pages = append(pages, "docs/"+name+".md", "docs/zh/"+name+".md")
	}
	for _, name := range pages {
		for _, m := range codeWord.FindAllStringSubmatch(readDocument(t, name), -1) {
			key, _, _ := strings.Cut(m[1], ":")
			if setting.MatchString(m[1]) && !slices.Contains(known, key) {
				t.Errorf("%s: no setting, error code or metric is named %s", name, key)
			}
		}
	}
}

// TestDocumentedCode checks that the packages, files and functions in docs/ARCHITECTURE.md exist,
// and that every package is in its table.
func TestDocumentedCode(t *testing.T) {
	t.Parallel()
	text := readDocument(t, "docs/ARCHITECTURE.md")
	for _, m := range codeWord.FindAllStringSubmatch(text, -1) {
		path := strings.TrimSuffix(m[1], "/...")
		if regexp.MustCompile(`^(internal|cmd|e2e|scripts)(/[\w.]+)*$`).MatchString(path) {
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("%s does not exist", path)
			}
		}
	}
	row := regexp.MustCompile("`([\\w/]+\\.go)` \\| `(?:(\\w+)\\.)?(\\w+)` \\|")
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		declaration := regexp.MustCompile(`(?m)^func ` + m[3] + `[(\[]`)
		if m[2] != "" {
			declaration = regexp.MustCompile(`(?m)^func \(\w+ \*?` + m[2] + `\) ` + m[3] + `\(`)
		}
		if !declaration.MatchString(readDocument(t, m[1])) {
			t.Errorf("%s has no %s %s", m[1], m[2], m[3])
		}
	}
	for _, dir := range packages(t) {
		if parent := filepath.Dir(dir); !strings.Contains(text, "`"+dir+"`") && !strings.Contains(text, "`"+parent+"/...`") {
			t.Errorf("package %s is not in the table", dir)
		}
	}
}

// packages returns the directories of the server's packages.
func packages(t *testing.T) (dirs []string) {
	t.Helper()
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(path string, d fs.DirEntry, err error) error {
			if dir := filepath.Dir(path); err == nil && filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
				dirs = append(dirs, filepath.ToSlash(strings.TrimPrefix(dir, "../")))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// TestDocumentedHTTP sends each request of docs/http-api.md, in the order of the document, and
// compares the reply with the document: "…" matches anything, and spaces are ignored. Each route in
// a heading must exist.
func TestDocumentedHTTP(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	push := s.PushTo(src.File(t), s.RTMP(s.Key("demo")), "-stream_loop", "-1")
	s.AwaitLive("demo")
	watchRTMP(t, s.RTMP("demo"))
	awaitPlayers(t, s, 1)

	text := readDocument(t, "docs/http-api.md")
	for _, m := range regexp.MustCompile(`(?m)^### (/\S*)$`).FindAllStringSubmatch(text, -1) {
		if resp, body := request(t, http.MethodGet, s.API(m[1]), nil); resp.StatusCode == http.StatusNotFound {
			t.Errorf("GET %s: %s", m[1], body)
		}
	}
	const address = "http://localhost:8090"
	examples := regexp.MustCompile("(?s)```console\n\\$ curl (?:-X ([A-Z]+) )?"+
		"(?:-H 'Content-Type: application/json' -d '([^']*)' )?'"+address+"(.*?)'\n(.*?)```").FindAllStringSubmatch(text, -1)
	if want := strings.Count(text, "```console"); len(examples) != want || want == 0 {
		t.Fatalf("this test can parse %d of %d examples", len(examples), want)
	}
	space := regexp.MustCompile(`\s`)
	for _, m := range examples {
		method := cmp.Or(m[1], http.MethodGet)
		_, body := request(t, method, s.API(m[3]), func(r *http.Request) {
			if m[2] != "" {
				r.Header.Set("Content-Type", "application/json")
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(m[2])), int64(len(m[2]))
			}
		})
		pattern := strings.ReplaceAll(regexp.QuoteMeta(space.ReplaceAllString(m[4], "")), "…", ".+?")
		if got := space.ReplaceAllString(body, ""); !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got) {
			t.Errorf("%s %s: %s\nwant %s", method, m[3], body, m[4])
		}
	}
	push.Kill()
}

// testedBlocks returns the marked code blocks of a document, in order.
func testedBlocks(text string) (blocks []codeBlock) {
	marked := regexp.MustCompile("(?ms)^ *<!-- test(: keeps running)? -->\n *```sh\n(.*?)^ *```")
	for _, m := range marked.FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, codeBlock{m[2], m[1] != ""})
	}
	return blocks
}

// A codeBlock is a code block after <!-- test -->, or after <!-- test: keeps running --> if its
// command keeps running.
type codeBlock struct {
	script       string
	keepsRunning bool
}
