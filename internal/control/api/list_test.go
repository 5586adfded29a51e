package api

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

type entry struct {
	id   int
	name string
}

func entryFields() sortable[entry] {
	return sortable[entry]{
		"id":   func(e *entry) sortKey { return numberKey(e.id) },
		"name": func(e *entry) sortKey { return textKey(e.name) },
	}
}

// readPages returns the IDs of all pages of list, which is changed after each page.
func readPages(t *testing.T, list []entry, sort string, limit int, change func([]entry) []entry) (ids []int) {
	t.Helper()
	in := ListInput{Limit: limit}
	if sort != "" {
		in.Sort = strings.Split(sort, ",")
	}
	for {
		p, err := newPager(in, entryFields(), "id", "id")
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range rand.Perm(len(list)) {
			p.add(list[i])
			if len(p.list) > 2*limit {
				t.Fatalf("%d entries are kept for a page of %d", len(p.list), limit)
			}
		}
		page, next := p.page()
		for _, e := range page {
			ids = append(ids, e.id)
		}
		if next == "" {
			return ids
		}
		if len(page) != limit {
			t.Fatalf("a page of %d, and not the last", len(page))
		}
		in.Cursor, list = next, change(list)
	}
}

func TestPages(t *testing.T) {
	list := []entry{{1, "b"}, {2, "a"}, {3, "b"}, {4, ""}, {5, "é\x00"}, {6, "a"}, {7, "c"}}
	same := func(l []entry) []entry { return l }
	for sort, want := range map[string][]int{
		"":          {1, 2, 3, 4, 5, 6, 7},
		"-id":       {7, 6, 5, 4, 3, 2, 1},
		"name":      {4, 2, 6, 1, 3, 7, 5},
		"-name":     {5, 7, 1, 3, 2, 6, 4},
		"-name,-id": {5, 7, 3, 1, 6, 2, 4},
	} {
		for limit := range len(list) + 1 {
			if got := readPages(t, list, sort, limit+1, same); !slices.Equal(got, want) {
				t.Errorf("sort %q, %d a page: %v, want %v", sort, limit+1, got, want)
			}
		}
	}
	if got := readPages(t, nil, "", 1, same); got != nil {
		t.Errorf("an empty list has %v", got)
	}
	// Entries that come and go shift no others.
	got := readPages(t, list, "id", 2, func(l []entry) []entry {
		return append(slices.Clone(l[1:]), entry{-len(l), "new"})
	})
	if want := []int{1, 2, 3, 4, 5, 6, 7}; !slices.Equal(got, want) {
		t.Errorf("a list that changes: %v, want %v", got, want)
	}
}

func TestInvalidSortAndCursor(t *testing.T) {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, in := range []ListInput{
		{Sort: []string{"size"}}, {Sort: []string{""}}, {Sort: []string{"--id"}}, {Cursor: "?"}, {Cursor: encode("{")},
		{Cursor: encode(`{"Order":"name","Keys":[{"Number":1},{"Number":1}]}`)}, // of another order
		{Cursor: encode(`{"Order":"id","Keys":[{"Number":1}]}`)},
		{Cursor: encode(`{"Order":"id","Keys":[{"Number":"x"},{"Number":1}]}`)},
	} {
		in.Limit = 1
		if _, err := newPager(in, entryFields(), "id", "id"); err == nil {
			t.Errorf("%+v is accepted", in)
		}
	}
	in := ListInput{Limit: 1, Cursor: encode(`{"Order":"id","Keys":[{"Number":1},{"Number":1}]}`)}
	if _, err := newPager(in, entryFields(), "id", "id"); err != nil {
		t.Errorf("a valid cursor: %v", err)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("eyJPcmRlciI6ImlkIiwiS2V5cyI6W3siTnVtYmVyIjoxfSx7Ik51bWJlciI6MX1dfQ", 1)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, s string, id int) {
		p, err := newPager(ListInput{Limit: 1, Cursor: s}, entryFields(), "id", "id")
		if err != nil {
			return
		}
		p.add(entry{id: id})
		if list, next := p.page(); len(list) > 1 || next != "" {
			t.Error(fmt.Sprint(list), next)
		}
	})
}
