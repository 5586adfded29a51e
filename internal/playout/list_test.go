package playout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// listCases is the table of lists, as the contents of /films/list.txt. It seeds the fuzz target.
var listCases = []struct {
	name, text string
	want       []Entry
	err        string // a part of it
}{
	{"plain", "file one.mp4\nfile two.flv\n",
		[]Entry{{Path: "/films/one.mp4", ListLine: "/films/list.txt:1"},
			{Path: "/films/two.flv", ListLine: "/films/list.txt:2"}}, ""},
	{"quotes and escapes", `file 'it'\''s one.mp4'` + "\r\n" + `file two\ films\\.flv`,
		[]Entry{{Path: "/films/it's one.mp4", ListLine: "/films/list.txt:1"},
			{Path: `/films/two films\.flv`, ListLine: "/films/list.txt:2"}}, ""},
	{"comments and empty lines", "\ufeff# a list\n\n  # more\n\tfile /tmp/a.ts\n",
		[]Entry{{Path: "/tmp/a.ts", ListLine: "/films/list.txt:4"}}, ""},
	{"all of ffconcat", "ffconcat version 1.0\nfile a.mp4\nduration 1:02.5\ninpoint 3\noutpoint 0:00:10\n",
		[]Entry{{Path: "/films/a.mp4", In: 3 * time.Second, Out: 10 * time.Second, Duration: 62500 * time.Millisecond,
			ListLine: "/films/list.txt:2"}}, ""},
	{"protocol file", "file 'file:a.mp4'", []Entry{{Path: "/films/a.mp4", ListLine: "/films/list.txt:1"}}, ""},
	{"address", "file http://host/a.mp4", nil, "list.txt:1: a list may not contain URLs"},
	{"unknown word", "file a.mp4\nspeed 2", nil, `list.txt:2: unknown word "speed"`},
	{"space without quotes", "file my film.mp4", nil, `list.txt:1: "file" takes one value (quote`},
	{"quote left open", "file 'a.mp4", nil, "list.txt:1: unclosed quote"},
	{"duration first", "duration 3\nfile a.mp4", nil, `list.txt:1: "duration" before the first file`},
	{"bad time", "file a.mp4\ninpoint -3", nil, `list.txt:2: invalid time "-3"`},
	{"outpoint before inpoint", "file a.mp4\ninpoint 3\noutpoint 2", nil, "list.txt:3: outpoint must be after inpoint"},
	{"another version", "ffconcat version 2.0\nfile a", nil, "list.txt:1: unsupported ffconcat version"},
	{"no file", "# nothing\n", nil, "list.txt: the list names no file"},
	{"too many", strings.Repeat("file a\n", maxEntries+1), nil, "more than 10000 files"},
}

func TestParseList(t *testing.T) {
	for _, tt := range listCases {
		got, err := parseList("/films/list.txt", []byte(tt.text))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.err)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
	}
}

func FuzzParseList(f *testing.F) {
	for _, tt := range listCases[:len(listCases)-1] {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseList("list.txt", []byte(text))
		if err == nil && len(list) == 0 {
			t.Error("empty list without an error")
		}
		for _, e := range list {
			if e.Path == "" || e.In < 0 || e.Out < 0 || e.Out > 0 && e.Out <= e.In || e.Duration < 0 {
				t.Errorf("%+v", e)
			}
		}
	})
}

func TestEntries(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range []string{"files.txt", "list"} {
		list := write(name, "\xff\xfe"+strings.Join(strings.Split("file 'a.mp4'\n", ""), "\x00")+"\x00")
		if _, err := Entries([]string{list}); err == nil || err.Error() != list+": the file is UTF-16: save it as UTF-8" {
			t.Errorf("a list in UTF-16: %v", err)
		}
	}
	list, film := write("any name", "# list\nfile x.mp4\n"), write("files.txt", "\x00\x00\x00\x18ftyp")
	got, err := Entries([]string{film, list, filepath.Join(dir, "gone")})
	want := []Entry{{Path: film}, {Path: filepath.Join(dir, "x.mp4"), ListLine: list + ":2"},
		{Path: filepath.Join(dir, "gone")}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
