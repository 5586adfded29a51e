package segment

import (
	"testing"
	"time"
)

// fileNames are names without their extension, and whether a segment or a part may have them; they seed the
// fuzzer too.
var fileNames = []struct {
	text string
	want fileName
	ok   bool
}{
	{"100-4000", fileName{100, 4000, -1}, true},
	{"100-4000.0", fileName{100, 4000, 0}, true},
	{"0-0.12", fileName{0, 0, 12}, true},
	{"18446744073709551615-9223372036854775807.2147483647", fileName{1<<64 - 1, 1<<63 - 1, 1<<31 - 1}, true},
	{"18446744073709551616-0", fileName{}, false},
	{"1-9223372036854775808", fileName{}, false},
	{"1-0.2147483648", fileName{}, false},
	{"", fileName{}, false},
	{"-", fileName{}, false},
	{"100", fileName{}, false},
	{"100-", fileName{}, false},
	{"-4000", fileName{}, false},
	{"100--1", fileName{}, false},
	{"100-4000.", fileName{}, false},
	{"100-4000.-1", fileName{}, false},
	{"100-4000.1.2", fileName{}, false},
	{"100-04000", fileName{}, false},
	{"0100-4000", fileName{}, false},
	{"100-4000.00", fileName{}, false},
	{"+100-4000", fileName{}, false},
	{"1e2-4000", fileName{}, false},
	{"0f3a9be1c2d4", fileName{}, false},
}

func TestFileNames(t *testing.T) {
	for _, tt := range fileNames {
		if got, ok := parseFileName(tt.text); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: %+v, %v", tt.text, got, ok)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, tt := range fileNames {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := parseFileName(text); ok && n.String() != text {
			t.Errorf("%q is another text for %v", text, n)
		}
	})
}

// TestAhead has a stream in which each name is ahead of all lists that do not have its file, and of no other.
func TestAhead(t *testing.T) {
	s := New(100, Options{Segment: 2 * time.Second, Part: 200 * ms})
	check := func(when string, ahead, known []string) {
		t.Helper()
		for _, name := range ahead {
			if l := s.List(); !l.Ahead(100, name) || l.File(name).Name != "" {
				t.Errorf("%s, %s is not ahead", when, name)
			}
		}
		for _, name := range known {
			if s.List().Ahead(100, name) {
				t.Errorf("%s, %s is ahead", when, name)
			}
		}
	}
	never := []string{"99-9000000.m4s", "101-9000000.m4s", "0f3a9be1c2d4.mp4", "100-9000000.1.ts", "100-9000000.mp4",
		".m4s", "index.m3u8"}
	check("before the first segment", []string{"100-0.m4s", "100-0.0.m4s", "100-0.ts"}, never)
	frames := interleave(video(0, 7*time.Second, 40*ms, 2*time.Second), audio(0, 7*time.Second))
	for _, f := range frames {
		s.Write(f)
		s.Flush()
		if l := s.List(); l.Ready {
			files := []string{}
			for _, seg := range l.segments {
				for _, p := range seg.parts {
					files = append(files, p.name+extPart)
				}
				files = append(files, seg.name+extPart, seg.name+extTS, seg.partName(len(seg.parts))+extPart)
			}
			for _, p := range l.parts {
				files = append(files, p.name+extPart)
			}
			check("during the stream", []string{"100-9000000.m4s", "100-9000000.3.m4s", "100-9000000.ts",
				l.open.partName(len(l.parts)) + extPart, l.open.name + extPart, l.open.name + extTS}, append(files, never...))
		}
	}
	s.Pause()
	newest := s.List().newest().name
	check("in a pause", []string{"100-9000000.m4s"}, []string{newest + extPart, newest + extTS, newest + ".99" + extPart})
	s.End()
	check("after the end", nil, []string{"100-9000000.m4s", newest + extPart})

	n := s.Successor(200)
	if l := n.List(); !l.Ahead(200, "200-0.m4s") || l.Ahead(200, newest+extPart) {
		t.Error("of the next session, its first segment is not ahead, or one of the session before is")
	}
}
