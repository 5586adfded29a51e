package health

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// TestDocument checks that docs/doctor.md has a section for each finding, in the order of the rules,
// with its severity. That the sentences are those of the code is checked where streams have them.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, r := range rules {
		want = append(want, fmt.Sprintf("## %s\n\nSeverity: %s.", r.Code, r.Severity))
	}
	for _, section := range regexp.MustCompile(`## \w+\n\nSeverity: \w+\.`).FindAll(text, -1) {
		got = append(got, string(section))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("sections\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	plain := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "\n>", " ")), " ")
	for _, facts := range []Facts{
		{Viewers: 10, Behind: 4},
		{Playback: Playback{Players: 120, Stalled: 9, Most: "HLS in Safari"}},
	} {
		e := newEncoder(t)
		e.facts = facts
		e.run(10 * time.Second)
		if sentence := e.a.Findings()[0].Text; !strings.Contains(plain, sentence) {
			t.Errorf("not in docs/doctor.md: %s", sentence)
		}
	}
}

// TestSizeOfHistory checks how much memory the history of a stream takes.
func TestSizeOfHistory(t *testing.T) {
	const most = 72 << 10 // bytes, as docs/doctor.md says
	if size := HistoryLength * int(unsafe.Sizeof(Sample{})); size > most {
		t.Errorf("%d bytes, want at most %d", size, most)
	}
}
