// Command testlog reads the output of go test -json, and prints it as go test without -v does: the
// output of failed tests, and a line for each package. It appends the duration of each test to a
// file, and with -slowest lists the slowest.
//
//	go test -json ./... | testlog -times FILE
//	testlog -times FILE -slowest 20
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

func main() {
	times := flag.String("times", "", "file of test durations")
	slowest := flag.Int("slowest", 0, "list this many of the slowest tests in the file, instead of reading events")
	flag.Parse()
	var err error
	if *slowest > 0 {
		err = printSlowest(os.Stdout, *times, *slowest)
	} else {
		err = printEvents(os.Stdin, os.Stdout, *times)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
}

// An event is a line of go test -json (see go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // s
}

// printEvents prints the events of r to w, and appends the durations to a file.
func printEvents(r io.Reader, w io.Writer, times string) error {
	f, err := os.OpenFile(times, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	held := map[string][]string{} // output by package and test, until the test passes or fails
	var skipped []string
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) != nil:
			fmt.Fprint(w, line) // not an event but a message of go itself
		default:
			if e.Test != "" && e.Elapsed > 0 && (e.Action == "pass" || e.Action == "fail") {
				fmt.Fprintf(f, "%.2f\t%s\t%s\n", e.Elapsed, e.Package, e.Test)
			}
			if e.Action == "skip" && e.Test != "" {
				skipped = append(skipped, e.Package+" "+e.Test)
			}
			e.print(w, held)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if len(skipped) > 0 {
		fmt.Fprintf(w, "%d tests were skipped:\n  %s\n", len(skipped), strings.Join(skipped, "\n  "))
	}
	return f.Close()
}

// print prints the event, or holds its output until the end of the test.
func (e event) print(w io.Writer, held map[string][]string) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		switch {
		case e.Test != "":
			held[key] = append(held[key], e.Output)
		case e.Output != "PASS\n":
			fmt.Fprint(w, e.Output)
		}
	case "pass", "skip":
		delete(held, key)
	case "fail":
		// Without a test it is the package that fails: with its tests, or because one never ended.
		for _, k := range failedKeys(held, e) {
			fmt.Fprint(w, strings.Join(held[k], ""))
			delete(held, k)
		}
	}
}

// failedKeys returns the keys of held output that the failure e concerns.
func failedKeys(held map[string][]string, e event) []string {
	if e.Test != "" {
		return []string{e.Package + " " + e.Test}
	}
	var keys []string
	for k := range held {
		if strings.HasPrefix(k, e.Package+" ") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// printSlowest lists the n slowest tests in a file.
func printSlowest(w io.Writer, times string, n int) error {
	b, err := os.ReadFile(times)
	if err != nil {
		return err
	}
	type test struct {
		seconds float64
		name    string
	}
	var tests []test
	for line := range strings.Lines(string(b)) {
		seconds, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		s, err := strconv.ParseFloat(seconds, 64)
		if err != nil {
			return fmt.Errorf("%s: %q: not a duration", times, line)
		}
		tests = append(tests, test{s, strings.ReplaceAll(name, "\t", " ")})
	}
	slices.SortStableFunc(tests, func(a, b test) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range tests[:min(n, len(tests))] {
		fmt.Fprintf(w, "%7.2fs  %s\n", t.seconds, t.name)
	}
	return nil
}
