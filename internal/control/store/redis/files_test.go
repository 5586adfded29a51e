package redis

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/internal/domain"
)

// TestFiles saves, loads and removes files that two servers share, on a single instance and in a
// Cluster.
func TestFiles(t *testing.T) {
	for name, start := range map[string]func() string{
		"one":     func() string { return startRedis(t).addr },
		"Cluster": func() string { addr, _ := startCluster(t); return addr },
	} {
		t.Run(name, func(t *testing.T) {
			addr := start()
			a, b := open(t, addr).Files(), open(t, addr).Files()
			ctx := t.Context()
			if _, _, err := a.Load(ctx, "dir/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("missing file: %v", err)
			}
			data := bytes.Repeat([]byte{0, 255, '\n'}, 1000)
			if err := errors.Join(a.Save(ctx, map[string][]byte{"dir/x": []byte("old")}),
				a.Save(ctx, map[string][]byte{"dir/x": data}), b.Save(ctx, map[string][]byte{"y": nil})); err != nil {
				t.Fatal(err)
			}
			got, modified, err := b.Load(ctx, "dir/x")
			if err != nil || !bytes.Equal(got, data) || time.Since(modified) > time.Minute {
				t.Errorf("loaded %d bytes of %v, %v", len(got), modified, err)
			}
			names, err := b.Names(ctx)
			if slices.Sort(names); err != nil || !slices.Equal(names, []string{"dir/x", "y"}) {
				t.Errorf("names: %v %v", names, err)
			}
			if err := errors.Join(b.Remove(ctx, "dir/x", "nobody"), b.Remove(ctx)); err != nil {
				t.Error(err)
			}
			if _, _, err := a.Load(ctx, "dir/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("removed file: %v", err)
			}
			if err := a.Save(ctx, map[string][]byte{"big": make([]byte, maxFile+1)}); err == nil {
				t.Error("a file that is too large was saved")
			}
			if err := a.Save(ctx, map[string][]byte{"one": []byte("1"), "two": []byte("2")}); err != nil {
				t.Error(err)
			}
			if err := a.Save(ctx, map[string][]byte{"one": []byte("new"), "big": make([]byte, maxFile+1)}); err == nil {
				t.Error("two files were saved, one of which is too large")
			}
			for name, want := range map[string]string{"one": "1", "two": "2"} {
				if data, _, err := b.Load(ctx, name); string(data) != want || err != nil {
					t.Errorf("%s: %q %v", name, data, err)
				}
			}
			if err := b.Save(ctx, nil); err != nil {
				t.Errorf("save of no files: %v", err)
			}
		})
	}
}

// TestForeignFiles stores foreign values under the names of files.
func TestForeignFiles(t *testing.T) {
	r := startRedis(t)
	f := open(t, r.addr).Files()
	if err := f.Save(t.Context(), map[string][]byte{"good": []byte("x")}); err != nil {
		t.Fatal(err)
	}
	value, _ := r.do("HGET", filesName, "good").(string)
	r.do("HSET", filesName, "text", "hello", "copied", value, "cut", value[:len(value)-1], "empty", "")
	for _, name := range []string{"text", "copied", "cut", "empty"} {
		if data, _, err := f.Load(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q %v", name, data, err)
		}
	}
	r.do("DEL", filesName)
	r.do("SET", filesName, "a text")
	_, _, err := f.Load(t.Context(), "good")
	_, namesErr := f.Names(t.Context())
	for what, err := range map[string]error{
		"Load": err, "Save": f.Save(t.Context(), map[string][]byte{"good": nil}), "Remove": f.Remove(t.Context(), "good"),
		"Names": namesErr,
	} {
		if domain.KindOf(err) != domain.Internal || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s with a foreign value: %v", what, err)
		}
	}
	r.kill()
	if _, _, err := f.Load(t.Context(), "good"); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("without Redis: %v", err)
	}
}

// TestLock checks that one owner at a time holds a lock, and the next one when that owner has died.
func TestLock(t *testing.T) {
	r := startRedis(t)
	var inside, runs atomic.Int64
	var all sync.WaitGroup
	for n := range 6 {
		f := open(t, r.addr).Files()
		all.Go(func() {
			owner := fmt.Sprint("server", n)
			for range 5 {
				eventually(t, 20*time.Second, "the lock", func() error {
					got, err := f.Lock(t.Context(), "job", owner, time.Minute)
					if err == nil && !got {
						err = errors.New("another owner holds it")
					}
					return err
				})
				if inside.Add(1) != 1 {
					t.Error("two owners hold the lock")
				}
				runs.Add(1)
				if got, err := f.Lock(t.Context(), "job", owner, time.Minute); !got || err != nil {
					t.Errorf("extending the lock: %v %v", got, err)
				}
				inside.Add(-1)
				if err := f.Unlock(t.Context(), "job", owner); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if runs.Load() != 30 {
		t.Errorf("the lock was acquired %d times, want 30", runs.Load())
	}
	f := open(t, r.addr).Files()
	if got, err := f.Lock(t.Context(), "job", "dead", 300*time.Millisecond); !got || err != nil {
		t.Fatal(got, err)
	}
	if err := f.Unlock(t.Context(), "job", "next"); err != nil {
		t.Error(err)
	}
	if got, err := f.Lock(t.Context(), "job", "next", time.Minute); got || err != nil {
		t.Errorf("another owner released the lock: %v %v", got, err)
	}
	eventually(t, 5*time.Second, "the lock of a dead owner", func() error {
		if got, err := f.Lock(t.Context(), "job", "next", time.Minute); err != nil || !got {
			return fmt.Errorf("%v %v", got, err)
		}
		return nil
	})
	if keys := fmt.Sprint(r.do("KEYS", "*")); strings.Count(keys, prefix) != len(strings.Fields(keys)) {
		t.Errorf("names without the prefix %s: %s", prefix, keys)
	}
}
