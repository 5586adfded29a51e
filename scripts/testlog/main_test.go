package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"    good_test.go:1: all is well\n"}
{"Action":"pass","Package":"p","Test":"TestGood","Elapsed":2.5}
{"Action":"pass","Package":"p","Test":"TestSlower","Elapsed":2.51}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    bad_test.go:1: it broke\n"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"--- FAIL: TestBad (12.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestBad","Elapsed":12}
{"Action":"output","Package":"p","Test":"TestEndless","Output":"panic: test timed out\n"}
{"Action":"skip","Package":"p","Test":"TestSkipped"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t14.5s\n"}
{"Action":"fail","Package":"p","Elapsed":14.5}
{"Action":"output","Package":"q","Output":"PASS\n"}
{"Action":"output","Package":"q","Output":"ok  \tq\t0.1s\n"}
{"Action":"pass","Package":"q","Elapsed":0.1}
go: something else
`

func TestPrintEventsAndSlowest(t *testing.T) {
	times := filepath.Join(t.TempDir(), "times")
	var out strings.Builder
	if err := printEvents(strings.NewReader(events), &out, times); err != nil {
		t.Fatal(err)
	}
	want := `    bad_test.go:1: it broke
--- FAIL: TestBad (12.00s)
FAIL
FAIL	p	14.5s
panic: test timed out
ok  	q	0.1s
go: something else
1 tests were skipped:
  p TestSkipped
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if err := printSlowest(&out, times, 20); err != nil ||
		out.String() != "  12.00s  p TestBad\n   2.51s  p TestSlower\n   2.50s  p TestGood\n" {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	if err := printSlowest(&out, times, 1); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%v\n%s", err, out.String())
	}
	if err := os.WriteFile(times, []byte("x\ty\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := printSlowest(&out, times, 1); err == nil {
		t.Error("no error for a line without a duration")
	}
}
