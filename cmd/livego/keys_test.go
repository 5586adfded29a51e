package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"livego/internal/domain"
)

// TestRenameRooms renames rooms of an earlier server.
func TestRenameRooms(t *testing.T) {
	found := []domain.Key{{Room: "a=b", Secret: "1"}, {Room: "it's", Secret: "2"}, {Room: "movie", Secret: "3"},
		{Room: "tab\there", Secret: "4"}}
	for _, c := range []struct {
		name    string
		rename  []string
		want    string // room:secret of each key
		refused []string
		err     string
	}{
		{"nothing", nil, "movie:3", []string{"--rename 'a=b=NEW'", `--rename 'it'\''s=NEW'`, `--rename "tab\there=NEW"`}, ""},
		{"one", []string{"a=b=ab"}, "ab:1 movie:3", []string{"it's", "tab"}, ""},
		{"all", []string{"a=b=ab", "it's=its", "tab\there=tab", "movie=film"}, "ab:1 its:2 film:3 tab:4", nil, ""},
		{"to one that is there", []string{"a=b=movie"}, "", nil, `rooms "a=b" and "movie" would both be named movie`},
		{"of none", []string{"x=y"}, "", nil, `--rename: this Redis has no room "x" with a key`},
		{"to a bad name", []string{"a=b=a b"}, "", nil, `--rename: room name "a b" has a character`},
		{"without =", []string{"movie"}, "", nil, `--rename: "movie" is not of the form OLD=NEW`},
		{"twice", []string{"movie=a", "movie=b"}, "", nil, `--rename: the room "movie" is given twice`},
	} {
		t.Run(c.name, func(t *testing.T) {
			names, err := parseRenames(c.rename)
			var keys []domain.Key
			var refused []string
			if err == nil {
				keys, refused, err = renameRooms(found, maps.Clone(names))
			}
			if c.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.err) {
					t.Errorf("got the error %v, want %s", err, c.err)
				}
				return
			}
			var got []string
			for _, k := range keys {
				got = append(got, k.Room+":"+k.Secret)
			}
			if err != nil || strings.Join(got, " ") != c.want || len(refused) != len(c.refused) {
				t.Fatalf("got %q, refused %q, %v", got, refused, err)
			}
			for _, want := range c.refused {
				if !slices.ContainsFunc(refused, func(r string) bool { return strings.Contains(r, want) }) {
					t.Errorf("refused %q, want %s", refused, want)
				}
			}
		})
	}
}
