package acme

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"slices"
	"testing"

	"livego/internal/ops/certtest"
)

// TestStorage checks that storage behaves like a directory, as the library requires.
func TestStorage(t *testing.T) {
	ctx := t.Context()
	s := newStorage(newMemoryStorage(), "me")
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
		t.Errorf("Load of a deleted file: %v", err)
	}
	if err := s.Delete(ctx, "a/b"); err != nil {
		t.Errorf("Delete of a deleted file: %v", err)
	}
}

// TestConcurrentWritersKeepPairsTogether has two servers that both hold the lock store a
// certificate each, in every possible order of their writes: the stored files always belong to one
// server.
func TestConcurrentWritersKeepPairsTogether(t *testing.T) {
	const stem = "certificates/authority/" + testDomain + "/" + testDomain
	type write struct{ name, data string }
	var writes [2][]write
	for n := range writes {
		cert, key := certtest.PEM(t, certtest.New(t))
		writes[n] = []write{{stem + ".key", string(key)}, {stem + ".crt", string(cert)},
			{stem + ".json", fmt.Sprintf(`{"server":%d}`, n)}}
	}
	for order := range 1 << 6 { // the server of each write, by bit
		if bits.OnesCount(uint(order)) != 3 {
			continue
		}
		shared := newMemoryStorage()
		servers := [2]*storage{newStorage(shared, "a"), newStorage(shared, "b")}
		done := [2]int{}
		for turn := range 6 {
			n := order >> turn & 1
			w := writes[n][done[n]]
			done[n]++
			if err := servers[n].Store(t.Context(), w.name, []byte(w.data)); err != nil {
				t.Fatal(err)
			}
			key, cert, meta := shared.files[stem+".key"], shared.files[stem+".crt"], shared.files[stem+".json"]
			if key == nil && cert == nil && meta == nil {
				continue
			}
			owner := -1
			for n, w := range writes {
				if string(key) == w[0].data && string(cert) == w[1].data && string(meta) == w[2].data {
					owner = n
				}
			}
			if owner < 0 {
				t.Fatalf("order %06b, after %d writes: the files are of both servers", order, turn+1)
			}
		}
		if shared.saves != 2 {
			t.Errorf("order %06b: %d writes", order, shared.saves)
		}
	}
}

// TestFailedWriteKeepsStoredCertificate fails the write of a certificate: the stored one stays,
// also when the library deletes the files that it assumes it has written.
func TestFailedWriteKeepsStoredCertificate(t *testing.T) {
	const stem = "certificates/authority/" + testDomain + "/" + testDomain
	shared := newMemoryStorage()
	s := newStorage(shared, "a")
	store := func(cert, key []byte) error {
		return errors.Join(s.Store(t.Context(), stem+".key", key), s.Store(t.Context(), stem+".crt", cert),
			s.Store(t.Context(), stem+".json", []byte("{}")))
	}
	cert, key := certtest.PEM(t, certtest.New(t))
	if err := store(cert, key); err != nil {
		t.Fatal(err)
	}
	cert2, key2 := certtest.PEM(t, certtest.New(t))
	for name, try := range map[string]func() error{
		"storage unavailable": func() error {
			shared.setDown(true)
			defer shared.setDown(false)
			return store(cert2, key2)
		},
		"key of another certificate": func() error { return store(cert2, key) },
	} {
		if err := try(); err == nil {
			t.Errorf("%s: it was stored", name)
		}
		if err := errors.Join(s.Delete(t.Context(), stem+".crt"), s.Delete(t.Context(), stem+".key")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(shared.files[stem+".key"], key) || !bytes.Equal(shared.files[stem+".crt"], cert) {
			t.Errorf("%s: the stored certificate is gone", name)
		}
	}
	if err := errors.Join(s.Store(t.Context(), stem+".json", []byte("{1}")),
		s.Delete(t.Context(), stem+".key")); err != nil {
		t.Error(err)
	}
	if string(shared.files[stem+".json"]) != "{1}" || shared.files[stem+".key"] != nil ||
		!bytes.Equal(shared.files[stem+".crt"], cert) {
		t.Errorf("after a change of one file and a deletion: %q", shared.files)
	}
}
