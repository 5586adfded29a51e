package api

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"livego/internal/domain"
)

// A ListInput has the parameters that every list accepts. It is exported to be embedded in inputs.
type ListInput struct {
	Sort   []string `query:"sort" maxItems:"4" doc:"Fields to sort by, separated by commas; - before a field reverses it."`
	Limit  int      `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Maximum number of entries."`
	Cursor string   `query:"cursor" maxLength:"2048" doc:"next of the page before."`
}

// A sortKey is the value of a field by which a list is sorted: a number or a text.
type sortKey struct {
	Number float64
	Text   string
}

func (k sortKey) compare(other sortKey) int {
	return cmp.Or(cmp.Compare(k.Number, other.Number), cmp.Compare(k.Text, other.Text))
}

func numberKey[N int | int64 | uint64 | float64](n N) sortKey { return sortKey{Number: float64(n)} }
func timeKey(t time.Time) sortKey                             { return numberKey(t.UnixMicro()) }
func textKey(s string) sortKey                                { return sortKey{Text: s} }

// A sortable lists the fields by which a list of T can be sorted.
type sortable[T any] map[string]func(*T) sortKey

// A pager selects one page of a list of any length: it keeps no more entries than twice the page.
// Pages continue after the last entry of the page before, so that entries that come and go in between
// shift no others.
type pager[T any] struct {
	limit int
	order string
	by    []sortField[T]
	after []sortKey // of the last entry of the page before; nil for the first page
	list  []*T
	last  []sortKey // of the first entry that was after the page at the last trim; nil before
}

type sortField[T any] struct {
	key     func(*T) sortKey
	reverse bool
}

// cursor is the text of a cursor, before it is encoded.
type cursor struct {
	Order string
	Keys  []sortKey
}

// newPager returns the pager for in. order is used if in has none. Entries that are equal in it are
// ordered by the field unique, which no two entries share.
func newPager[T any](in ListInput, fields sortable[T], order, unique string) (*pager[T], error) {
	names := in.Sort
	if len(names) == 0 {
		names = strings.Split(order, ",")
	}
	p := &pager[T]{limit: in.Limit}
	for _, name := range append(slices.Clone(names), unique) {
		field, reverse := strings.CutPrefix(name, "-")
		key := fields[field]
		if key == nil {
			return nil, domain.Errorf(domain.Invalid, "invalid sort: the list has no such field")
		}
		p.by = append(p.by, sortField[T]{key, reverse})
	}
	p.order = strings.Join(names, ",")
	if in.Cursor == "" {
		return p, nil
	}
	var c cursor
	data, err := base64.RawURLEncoding.DecodeString(in.Cursor)
	if err != nil || json.Unmarshal(data, &c) != nil || c.Order != p.order || len(c.Keys) != len(p.by) {
		return nil, domain.Errorf(domain.Invalid, "invalid cursor: it must be next of a page in the same order")
	}
	p.after = c.Keys
	return p, nil
}

// add adds an entry, if it comes after the page before.
func (p *pager[T]) add(e T) {
	entry := &e
	if p.after != nil && p.compareTo(p.after, entry) <= 0 || p.last != nil && p.compareTo(p.last, entry) > 0 {
		return
	}
	if p.list = append(p.list, entry); len(p.list) > 2*p.limit {
		p.trim()
	}
}

// full reports whether later entries of the list, if they come in its order, are not on the page.
func (p *pager[T]) full() bool { return len(p.list) > p.limit }

// compareTo compares an entry with one that has these keys.
func (p *pager[T]) compareTo(keys []sortKey, entry *T) int {
	for i, f := range p.by {
		if c := f.compare(f.key(entry), keys[i]); c != 0 {
			return c
		}
	}
	return 0
}

// keys returns the keys of an entry.
func (p *pager[T]) keys(entry *T) []sortKey {
	keys := make([]sortKey, len(p.by))
	for i, f := range p.by {
		keys[i] = f.key(entry)
	}
	return keys
}

func (f sortField[T]) compare(a, b sortKey) int {
	if f.reverse {
		a, b = b, a
	}
	return a.compare(b)
}

// trim drops entries that are not on the page, except the first of them.
func (p *pager[T]) trim() {
	slices.SortFunc(p.list, func(a, b *T) int {
		for _, f := range p.by {
			if c := f.compare(f.key(a), f.key(b)); c != 0 {
				return c
			}
		}
		return 0
	})
	if len(p.list) > p.limit {
		p.list = p.list[:p.limit+1]
		p.last = p.keys(p.list[p.limit])
	}
}

// page returns the entries of the page, not nil, and the cursor of the next page; "" for the last.
func (p *pager[T]) page() (list []T, next string) {
	p.trim()
	entries := p.list[:min(len(p.list), p.limit)]
	list = make([]T, 0, len(entries))
	for _, entry := range entries {
		list = append(list, *entry)
	}
	if len(p.list) <= p.limit {
		return list, ""
	}
	data, err := json.Marshal(cursor{p.order, p.keys(p.list[p.limit-1])})
	if err != nil {
		panic(err) // numbers are finite
	}
	return list, base64.RawURLEncoding.EncodeToString(data)
}
