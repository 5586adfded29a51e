package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// TestComplete completes command lines, whose last word is what stands before the cursor.
func TestComplete(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string // some of the completions
		not  []string
		none bool // a file name, or what only the user knows
	}{
		{line: "", want: []string{"serve", "keys", "health", "completion"}, not: []string{"__complete", "man", "--level"}},
		{line: "ke", want: []string{"keys"}, not: []string{"serve"}},
		{line: "keys ", want: []string{"list", "make"}, not: []string{"serve"}},
		{line: "--", want: []string{"--rtmp_addr", "--help"}, not: []string{"--gather", "serve"}},
		{line: "serve --lev", want: []string{"--level"}},
		{line: "keys make --", want: []string{"--role", "--label", "--help"}, not: []string{"--rtmp_addr"}},
		{line: "keys make --role ", want: []string{"primary", "backup"}},
		{line: "keys make --role=b", want: []string{"--role=backup"}, not: []string{"--role=primary"}},
		{line: "keys make --role = b", want: []string{"backup"}, not: []string{"primary"}}, // as bash splits it
		{line: "keys make --role =", want: []string{"primary", "backup"}, not: []string{"--role"}},
		{line: "--level de", want: []string{"debug"}, not: []string{"info"}},
		{line: "--level debug ke", want: []string{"keys"}},
		{line: "--rtmp_noauth ke", want: []string{"keys"}},
		{line: "--config_file keys ", want: []string{"serve"}, not: []string{"list"}},
		{line: "--log-format ", want: []string{"json"}},
		{line: "completion ", want: []string{"bash", "zsh", "fish"}},
		{line: "probe ", none: true},
		{line: "--data_dir ", none: true},
		{line: "--unknown=", none: true},
	} {
		var out, errs bytes.Buffer
		if code := run(append([]string{"__complete", "--"}, strings.Split(c.line, " ")...), nil, &out, &errs); code != 0 {
			t.Errorf("%q: exit code %d: %s", c.line, code, &errs)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			value, _, _ := strings.Cut(line, "\t")
			got = append(got, value)
		}
		if c.none && got != nil {
			t.Errorf("%q: %q, want none", c.line, got)
		}
		for _, want := range c.want {
			if !slices.Contains(got, want) {
				t.Errorf("%q: %q, want %s among them", c.line, got, want)
			}
		}
		for _, not := range c.not {
			if slices.Contains(got, not) {
				t.Errorf("%q: %q, want it without %s", c.line, got, not)
			}
		}
	}
}
