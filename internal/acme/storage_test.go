package acme

import (
	"errors"
	"io/fs"
	"slices"
	"testing"
)

// TestStorage holds the storage to what the library wants of a directory.
func TestStorage(t *testing.T) {
	ctx := t.Context()
	s := &storage{newMemory(), "me"}
	for _, name := range []string{"a/b/1", "a/b/2", "a/c/3", "ab/4", "5"} {
		if err := s.Store(ctx, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		dir       string
		recursive bool
		want      []string
	}{
		{"a", false, []string{"a/b", "a/c"}},
		{"a", true, []string{"a/b/1", "a/b/2", "a/c/3"}},
		{"a/b", false, []string{"a/b/1", "a/b/2"}},
		{"a/b/1", false, nil},
		{"x", true, nil},
	} {
		got, err := s.List(ctx, c.dir, c.recursive)
		if slices.Sort(got); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("List %s, %v: %v %v, want %v", c.dir, c.recursive, got, err, c.want)
		}
	}
	if info, err := s.Stat(ctx, "a/b/1"); err != nil || !info.IsTerminal || info.Size != 5 {
		t.Errorf("Stat of a file: %+v %v", info, err)
	}
	if info, err := s.Stat(ctx, "a"); err != nil || info.IsTerminal {
		t.Errorf("Stat of a directory: %+v %v", info, err)
	}
	if err := s.Delete(ctx, "a/b"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a/b": false, "a/b/1": false, "a/c/3": true, "a/c": true, "ab/4": true} {
		if s.Exists(ctx, name) != want {
			t.Errorf("after Delete: %s exists: %v, want %v", name, !want, want)
		}
	}
	if _, err := s.Load(ctx, "a/b/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of what is gone: %v", err)
	}
	if err := s.Delete(ctx, "a/b"); err != nil {
		t.Errorf("Delete of what is gone: %v", err)
	}
}
