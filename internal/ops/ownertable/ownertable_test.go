package ownertable

import (
	"strings"
	"testing"

	"livego/internal/domain"
)

func TestTable(t *testing.T) {
	table, nodesErr, ownersErr := Parse([]string{"a=10.0.0.1:7946", "b=node-b.example.com:7946", "c=[::1]:7946"},
		[]string{"*=a", "live=b", "live/movie=c"})
	if nodesErr != nil || ownersErr != nil {
		t.Fatal(nodesErr, ownersErr)
	}
	for name, want := range map[domain.Name]string{{App: "live", Room: "movie"}: "c", {App: "live", Room: "x"}: "b",
		{App: "vod", Room: "movie"}: "a"} {
		if got := table.Owner(name); got != want {
			t.Errorf("%s belongs to %q, want %q", name, got, want)
		}
	}
	if addr, ok := table.Address("c"); addr != "[::1]:7946" || !ok {
		t.Errorf("address %q", addr)
	}
	if err := table.Check("d"); err != nil {
		t.Error(err)
	}
	table, _, _ = Parse([]string{"a=10.0.0.1:7946"}, []string{"live=b"})
	if err := table.Check("c"); err == nil {
		t.Error("an owner without an address is valid")
	}
	if err := table.Check("b"); err != nil {
		t.Error(err)
	}
	if got := table.Owner(domain.Name{App: "vod", Room: "movie"}); got != "" {
		t.Errorf("a stream without an entry belongs to %q", got)
	}
}

func TestInvalidTables(t *testing.T) {
	for _, c := range []struct{ nodes, owners, want string }{
		{"a", "", "has no ="},
		{"a=", "", "host:port"},
		{"a=:7946", "", "host:port"},
		{"a=10.0.0.1", "", "host:port"},
		{"a b=10.0.0.1:7946", "", "node ID"},
		{"a=10.0.0.1:1,a=10.0.0.1:2", "", "two entries"},
		{"", "live", "has no ="},
		{"", "api=a", "reserved"},
		{"", "live/=a", "room"},
		{"", "live=a b", "node ID"},
		{"", "live=a,live=b", "two entries"},
	} {
		split := func(text string) []string {
			return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
		}
		_, nodesErr, ownersErr := Parse(split(c.nodes), split(c.owners))
		for _, err := range []error{nodesErr, ownersErr} {
			if err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v", c, err)
			}
		}
		if nodesErr == nil && ownersErr == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}
