package bolt

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"livego/internal/control/store/storetest"
	"livego/internal/domain"
)

// childDir names the data directory of a child process of TestKilledProcessKeepsAcknowledgedKeys;
// it is set only there.
const childDir = "LIVEGO_TEST_STORE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		childMain(dir)
	}
	goleak.VerifyTestMain(m)
}

func mustOpen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Backend{
		Open: func(t *testing.T, dir string) domain.Store { return mustOpen(t, dir) },
	})
}

func TestFileModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no Unix modes")
	}
	dir := filepath.Join(t.TempDir(), "a", "data")
	mustOpen(t, dir)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, fileName): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the data directory holds %v, %v; want one file", entries, err)
	}
}

func TestOpenRefusesFileInUse(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir)
	start := time.Now()
	_, err := Open(dir)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, fileName)) ||
		!strings.Contains(err.Error(), "in use") {
		t.Errorf("Open of a locked file: %v", err)
	}
	if d := time.Since(start); d > 2*lockWait {
		t.Errorf("it took %v", d)
	}
}

// TestOpenRefusesDamagedFile opens damaged files. Each must be refused with a clear error or, if
// the damage is harmless, have every key; none may open empty or end the process.
func TestOpenRefusesDamagedFile(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	s := mustOpen(t, good)
	for i := range 50 {
		if _, err := storetest.WithKeys(s).Get(t.Context(), "", fmt.Sprint("room", i)); err != nil {
			t.Fatal(err)
		}
	}
	var used int
	if err := s.db.View(func(tx *bbolt.Tx) error { used = int(tx.Size()); return nil }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	whole, err := os.ReadFile(filepath.Join(good, fileName))
	if err != nil {
		t.Fatal(err)
	}
	type damage struct {
		name string
		data []byte
		may  bool // may be harmless
	}
	cases := []damage{
		{"empty", nil, false},
		{"one byte", whole[:1], false},
		{"one page", whole[:os.Getpagesize()], false},
		{"text", bytes.Repeat([]byte("not a database\n"), 5000), false},
		{"zeros", make([]byte, len(whole)), false},
		{"secrets renamed", bytes.ReplaceAll(whole, []byte(`"secret":"`), []byte(`"terces":"`)), false},
	}
	for n := os.Getpagesize(); n < len(whole); n += os.Getpagesize() {
		// The file ends in pages that were never used.
		cases = append(cases, damage{fmt.Sprint("cut at ", n), whole[:n], n >= used})
		scribbled := bytes.Clone(whole)
		copy(scribbled[n:], bytes.Repeat([]byte{0xa5}, os.Getpagesize()))
		cases = append(cases, damage{fmt.Sprint("overwritten at ", n), scribbled, true})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, fileName)
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir)
			if err == nil {
				defer s.Close()
				if keys, err := storetest.WithKeys(s).List(t.Context(), ""); !c.may || err != nil || len(keys) != 50 {
					t.Fatalf("opened with %d keys, %v", len(keys), err)
				}
				return
			}
			for _, want := range []string{path, "damaged", "move it away"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, c.data) {
				t.Error("the file was written to")
			}
		})
	}
}

func TestOpenRefusesNewerVersion(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		return writeUint(tx.Bucket(metaBucket), versionKey,
			schemaVersion+1)
	}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "version 2") ||
		!strings.Contains(err.Error(), dir) {
		t.Errorf("Open of a newer file: %v", err)
	}
}

// TestConsumedTokenCausesNoWrite checks that using a consumed token again causes no disk writes.
func TestConsumedTokenCausesNoWrite(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	writes := func() int64 { st := s.db.Stats(); return st.TxStats.GetWrite() }
	id, until := [16]byte{1}, time.Now().Add(time.Hour)
	if first, err := s.Consume(t.Context(), id, until); err != nil || !first {
		t.Fatal(first, err)
	}
	before := writes()
	if first, err := s.Consume(t.Context(), id, until); err != nil || first {
		t.Error(first, err)
	}
	if n := writes() - before; n != 0 {
		t.Errorf("%d writes for a consumed token", n)
	}
}

// TestConcurrentChangesShareTransactions uses many tokens at once: they need far fewer transactions,
// each with its disk sync. One token alone does not wait for others.
func TestConcurrentChangesShareTransactions(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	transactions := func() (n int) {
		t.Helper()
		if err := s.db.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	consume := func(n int) {
		if first, err := s.Consume(t.Context(), [16]byte{byte(n)}, time.Now().Add(time.Hour)); err != nil || !first {
			t.Error(first, err)
		}
	}
	before := transactions()
	var all sync.WaitGroup
	start := make(chan struct{})
	for n := range 100 {
		all.Go(func() {
			<-start
			consume(n)
		})
	}
	close(start)
	all.Wait()
	if n := transactions() - before; n > 50 {
		t.Errorf("%d transactions for 100 concurrent changes", n)
	}
	s.db.MaxBatchDelay = time.Hour // of the changes that wait for others
	consume(100)
}

func TestTouchWritesOncePerMinute(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	keys := storetest.WithKeys(s)
	k, err := keys.Get(t.Context(), "", "movie")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	writes := func() int64 { st := s.db.Stats(); return st.TxStats.GetWrite() }
	if err := keys.Touch(t.Context(), k, now); err != nil {
		t.Fatal(err)
	}
	if k, err = keys.Get(t.Context(), "", "movie"); err != nil {
		t.Fatal(err)
	}
	before := writes()
	for i := range 59 {
		if err := keys.Touch(t.Context(), k, now.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if n := writes() - before; n != 0 {
		t.Errorf("%d writes for touches within a minute", n)
	}
}

// TestFileOfEarlierVersion opens a file that livego 0.1 wrote before stores only stored.
func TestFileOfEarlierVersion(t *testing.T) {
	packed, err := os.Open("testdata/earlier.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	storetest.RunEarlier(t, mustOpen(t, dir))
}
