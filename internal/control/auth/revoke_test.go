package auth

import (
	"slices"
	"testing"

	"livego/internal/domain"
)

// A fakeHub has streams with owners.
type fakeHub map[domain.Name]any

func (f fakeHub) Names() []domain.Name {
	var names []domain.Name
	for name := range f {
		names = append(names, name)
	}
	return names
}

func (f fakeHub) EndOwners(owners []any, end bool, reason error) (n int) {
	for name, owner := range f {
		if slices.Contains(owners, owner) {
			n++
			delete(f, name)
		}
	}
	return n
}

// TestRevoker revokes keys and deletes rooms: streams with these keys, and those without a key in
// these rooms, end.
func TestRevoker(t *testing.T) {
	ref := domain.KeyRef{ID: "a", Generation: 1}
	movie, again := domain.Name{App: "live", Room: "movie"}, domain.Name{App: "vod", Room: "movie"}
	other := domain.Name{App: "live", Room: "other"}
	keyless := func(name domain.Name) any { return domain.Grant{Name: name}.Owner() }
	for _, c := range []struct {
		name string
		do   func(Revoker) bool
		left []domain.Name
		want bool
	}{
		{"revoke", func(r Revoker) bool {
			r.Revoke([]domain.KeyRef{ref, {ID: "b"}}, true)
			return true
		}, []domain.Name{movie, again}, true},
		{"revoke an older key", func(r Revoker) bool {
			r.Revoke([]domain.KeyRef{{ID: "a"}}, true)
			return true
		}, []domain.Name{movie, other, again}, true},
		{"delete", func(r Revoker) bool { return r.EndKeyless("", "movie") }, []domain.Name{other}, true},
		{"delete in one app", func(r Revoker) bool { return r.EndKeyless("vod", "movie") },
			[]domain.Name{movie, other}, true},
		{"delete a room with a key", func(r Revoker) bool { return r.EndKeyless("", "other") },
			[]domain.Name{movie, other, again}, false},
		{"delete an unknown room", func(r Revoker) bool { return r.EndKeyless("", "unknown") },
			[]domain.Name{movie, other, again}, false},
	} {
		hub := fakeHub{movie: keyless(movie), again: keyless(again), other: domain.Grant{Name: other, Key: ref}.Owner()}
		if got := c.do(Revoker{Hub: hub}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		for _, name := range c.left {
			if _, ok := hub[name]; !ok {
				t.Errorf("%s: %s has ended", c.name, name)
			}
		}
		if len(hub) != len(c.left) {
			t.Errorf("%s: %d streams are left, want %d", c.name, len(hub), len(c.left))
		}
	}
}
