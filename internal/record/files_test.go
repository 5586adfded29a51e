package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/media"
)

var epoch = time.Unix(1_900_000_000, 0).UTC()

// A recorded is a directory of recordings, and a Recorder that manages it.
type recorded struct {
	*testing.T
	dir string
	*Recorder
	log *strings.Builder
}

func newRecorded(t *testing.T, o Options) *recorded {
	t.Helper()
	d := &recorded{T: t, dir: t.TempDir(), log: new(strings.Builder)}
	o.Dir, o.Log, o.Off = d.dir, slog.New(slog.NewTextHandler(d.log, nil)), true
	d.Recorder = New(nil, o)
	return d
}

// add writes a finished recording of 5 s that starts at this time after the epoch. It returns the
// path.
func (d *recorded) add(room string, start time.Duration) string {
	d.Helper()
	f, path := d.begin(room, start)
	f.Close()
	return path
}

// begin is add with the file still open.
func (d *recorded) begin(room string, start time.Duration) (file, string) {
	d.Helper()
	at := epoch.Add(start)
	f, path, err := d.Recorder.dir.create(domain.Name{App: "live", Room: room}, at)
	if err != nil {
		d.Fatal(err)
	}
	w := &flv.FileWriter{Mark: flv.Mark{File: path, Started: at, Gaps: 3, Reason: "ended"}}
	for i := range 6 {
		w.Append(&media.Frame{Track: avc, DTS: time.Duration(i) * time.Second, RAP: media.Keyframe,
			Payload: []byte{0, 0, 0, 1, 0x65}})
	}
	if err := errors.Join(w.Flush(f), w.Finish(f)); err != nil {
		d.Fatal(err)
	}
	return f, path
}

// list returns the files of all recordings that pass the filter, by pages of two.
func (d *recorded) list(f domain.RecordingFilter) (files []string) {
	d.Helper()
	for cursor := ""; ; {
		page, next, err := d.List(d.Context(), f, cursor, 2)
		if err != nil {
			d.Fatal(err)
		}
		for _, r := range page {
			files = append(files, r.File)
		}
		if cursor = next; cursor == "" {
			return files
		}
		if len(page) != 2 {
			d.Fatalf("a page has %d recordings", len(page))
		}
	}
}

func (d *recorded) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(d.dir, path))
	return err == nil
}

// addForeign adds files that are like recordings, and that livego did not write at their path. It
// returns their paths.
func (d *recorded) addForeign() (paths []string) {
	d.Helper()
	path := func(p string) string {
		paths = append(paths, p)
		return filepath.Join(d.dir, p)
	}
	own := filepath.Join(d.dir, d.add("original", 0))
	content, err := os.ReadFile(own)
	if err != nil {
		d.Fatal(err)
	}
	elsewhere := filepath.Join(d.TempDir(), "elsewhere_1.flv")
	err = errors.Join(
		os.WriteFile(path("live/foreign_1.flv"), []byte("a file of the operator"), 0o600),
		os.WriteFile(path("live/otherflv_2.flv"), flv.FileHeader(true, true), 0o600),
		os.WriteFile(path("live/copy_3.flv"), content, 0o600),
		os.WriteFile(path("live/original_1900000000.flv.bak"), content, 0o600),
		os.Rename(own, path("live/renamed_4.flv")),
		os.WriteFile(elsewhere, content, 0o600),
		os.Symlink(elsewhere, path("live/original_1900000000.flv")),
		os.Symlink("copy_3.flv", path("live/link_5.flv")),
		os.Symlink("live", path("vod")),
		os.Symlink(filepath.Join(d.dir, "live"), path("outside")), // os.Root follows no absolute link
		os.WriteFile(path("top_6.flv"), content, 0o600),
	)
	if err != nil {
		d.Fatal(err)
	}
	return append(paths, "vod/copy_3.flv", "outside/copy_3.flv")
}

// TestFilesAreListed lists what is on the disk, by pages and with filters, after a restart too.
func TestFilesAreListed(t *testing.T) {
	d := newRecorded(t, Options{})
	if got := d.list(domain.RecordingFilter{}); got != nil {
		t.Errorf("no recordings: %v", got)
	}
	var all []string // newest first
	for i := range 7 {
		all = append([]string{d.add([]string{"movie", "film"}[i%2], time.Duration(i)*time.Hour)}, all...)
	}
	d.addForeign()
	for _, c := range []struct {
		name   string
		filter domain.RecordingFilter
		want   []string
	}{
		{"all", domain.RecordingFilter{}, all},
		{"app", domain.RecordingFilter{App: "live"}, all},
		{"another app", domain.RecordingFilter{App: "vod"}, nil},
		{"room", domain.RecordingFilter{Room: "film"}, []string{all[1], all[3], all[5]}},
		{"since", domain.RecordingFilter{Since: epoch.Add(5 * time.Hour)}, all[:2]},
		{"until", domain.RecordingFilter{Until: epoch.Add(time.Hour)}, all[5:]},
		{"finished", domain.RecordingFilter{State: domain.RecordingFinished, Room: "movie"},
			[]string{all[0], all[2], all[4], all[6]}},
		{"running", domain.RecordingFilter{State: domain.RecordingActive}, nil},
	} {
		if got := d.list(c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if _, _, err := d.List(t.Context(), domain.RecordingFilter{}, "x", 10); domain.KindOf(err) != domain.Invalid {
		t.Errorf("a wrong cursor: %v", err)
	}
	got, err := d.Get(t.Context(), "live~movie_1900000000")
	want := domain.Recording{Name: movie, File: "live/movie_1900000000.flv", Started: epoch, Bytes: got.Bytes,
		Duration: 5 * time.Second, Gaps: 3, State: domain.RecordingFinished, Reason: domain.EndOfStream}
	if err != nil || got != want || got.ID() != "live~movie_1900000000" || got.Bytes < 1000 {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	d.add("movie", 7*time.Hour)
	if err := os.RemoveAll(filepath.Join(d.dir, "live")); err != nil {
		t.Fatal(err)
	}
	if got := d.list(domain.RecordingFilter{}); got != nil {
		t.Errorf("removed recordings are listed: %v", got)
	}
}

// TestForeignFilesAreLeftAlone lists, opens and deletes files that livego did not write, by requests
// and by settings: it does none of it.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	d := newRecorded(t, Options{Limits: Limits{Keep: time.Second, KeepBytes: 1}})
	foreign := d.addForeign()
	if got := d.list(domain.RecordingFilter{}); got != nil {
		t.Errorf("listed: %v", got)
	}
	ids := []string{"", "~", "live", "live~", "..~movie_1", "live~..", "live~../movie_1", "live/movie_1", "~movie_1",
		"live~movie_1~", "live~movie_-1", "live~movie_9223372036854775808", strings.Repeat("a", 1000)}
	for _, path := range foreign {
		ids = append(ids, domain.Recording{File: path}.ID())
	}
	for _, id := range ids {
		if _, err := d.Get(t.Context(), id); domain.KindOf(err) != domain.NotFound {
			t.Errorf("get %q: %v", id, err)
		}
		if _, _, err := d.Open(t.Context(), id); domain.KindOf(err) != domain.NotFound {
			t.Errorf("open %q: %v", id, err)
		}
		if err := d.Delete(t.Context(), id); domain.KindOf(err) != domain.NotFound {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	if err := d.deleteOld(*d.limits.Load(), map[fileName]*keptFile{}); err != nil {
		t.Error(err)
	}
	for _, path := range foreign {
		if !d.exists(path) {
			t.Errorf("%s was deleted", path)
		}
	}
}

// TestOpenAndDeleteRecording reads a file and deletes it; a file that another process writes stays.
func TestOpenAndDeleteRecording(t *testing.T) {
	d := newRecorded(t, Options{})
	path := d.add("movie", 0)
	running, locked := d.begin("movie", time.Hour)
	defer running.Close()
	r, f, err := d.Open(t.Context(), "live~movie_1900000000")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil || int64(len(b)) != r.Bytes || r.File != path {
		t.Errorf("%d bytes of %+v, %v", len(b), r, err)
	}
	if err := d.Delete(t.Context(), "live~movie_1900003600"); domain.KindOf(err) != domain.Conflict || !d.exists(locked) {
		t.Errorf("a file that is being written: %v", err)
	}
	if err := d.Delete(t.Context(), r.ID()); err != nil || d.exists(path) {
		t.Errorf("%v", err)
	}
	if err := d.Delete(t.Context(), r.ID()); domain.KindOf(err) != domain.NotFound {
		t.Errorf("the second time: %v", err)
	}
	if n := strings.Count(d.log.String(), `msg="recording deleted"`); n != 1 {
		t.Errorf("logged %d times:\n%s", n, d.log)
	}
}

// TestKeep deletes the oldest recordings by age and by size.
func TestKeep(t *testing.T) {
	size := int64(0)
	for _, c := range []struct {
		name      string
		keep      time.Duration
		keepFiles float64
		want      int // newest recordings that are left of ten, which are an hour apart
	}{
		{"no limit", 0, 0, 10},
		{"age", 3*time.Hour + 30*time.Minute, 0, 4},
		{"size", 0, 6.5, 6},
		{"age before size", 2*time.Hour + 30*time.Minute, 6.5, 3},
		{"size before age", 8 * time.Hour, 2, 2},
		{"less than one file", 0, 0.5, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newRecorded(t, Options{Limits: Limits{Keep: c.keep, KeepBytes: int64(c.keepFiles * float64(size))}})
			var files []string
			since := time.Since(epoch)
			for i := range 10 {
				files = append(files, d.add(fmt.Sprintf("room%d", i%3), since-time.Duration(10-i)*time.Hour+50*time.Minute))
			}
			info, err := os.Stat(filepath.Join(d.dir, files[0]))
			if err != nil {
				t.Fatal(err)
			}
			size = info.Size()
			known := map[fileName]*keptFile{}
			for range 2 {
				if err := d.deleteOld(*d.limits.Load(), known); err != nil {
					t.Fatal(err)
				}
			}
			for i, path := range files {
				if d.exists(path) != (i >= 10-c.want) {
					t.Errorf("%s, the oldest but %d, exists: %v", path, i, d.exists(path))
				}
			}
			if n := strings.Count(d.log.String(), "recording deleted"); n != 10-c.want {
				t.Errorf("logged %d times:\n%s", n, d.log)
			}
		})
	}
}

// TestKeepCountsRunningRecordings counts a running recording, and does not delete it.
func TestKeepCountsRunningRecordings(t *testing.T) {
	d := newRecorded(t, Options{Limits: Limits{KeepBytes: 100_000}})
	old := d.add("movie", 0)
	running, path := d.begin("movie", time.Hour)
	defer running.Close()
	d.addEntry(&entry{Recording: domain.Recording{Name: movie, File: path, Bytes: 99_000, State: domain.RecordingActive}})
	if err := d.deleteOld(*d.limits.Load(), map[fileName]*keptFile{}); err != nil || d.exists(old) || !d.exists(path) {
		t.Errorf("%v; the old file exists: %v, the running one: %v", err, d.exists(old), d.exists(path))
	}
	if got := d.list(domain.RecordingFilter{State: domain.RecordingActive}); !slices.Equal(got, []string{path}) {
		t.Errorf("running: %v", got)
	}
	if err := d.Delete(t.Context(), domain.Recording{File: path}.ID()); domain.KindOf(err) != domain.Conflict {
		t.Errorf("delete: %v", err)
	}
}

// TestLockedRecordingIsKept has an old recording that another process has locked. It is logged once.
func TestLockedRecordingIsKept(t *testing.T) {
	d := newRecorded(t, Options{Limits: Limits{Keep: time.Second}})
	f, path := d.begin("movie", time.Since(epoch)-time.Hour)
	defer f.Close()
	known := map[fileName]*keptFile{}
	for range 3 {
		if err := d.deleteOld(*d.limits.Load(), known); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(d.log.String(), "cannot delete an old recording"); n != 1 || !d.exists(path) {
		t.Errorf("logged %d times:\n%s", n, d.log)
	}
}

// TestLimitsChange sets limits while the Recorder runs: old recordings are deleted at once.
func TestLimitsChange(t *testing.T) {
	deleted := make(chan domain.Event, 2)
	d := newRecorded(t, Options{Event: func(e domain.Event) { deleted <- e }})
	old := d.add("old", time.Since(epoch)-3*time.Hour)
	young := d.add("young", time.Since(epoch)-time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Recorder.Run(ctx)
	}()
	d.SetLimits(Limits{Keep: 2 * time.Hour})
	if e := <-deleted; e.Type != domain.EventRecordingDeleted || e.Room != "old" || e.Reason != "record_keep" ||
		e.Fields["file"] != old {
		t.Errorf("%+v", e)
	}
	d.SetLimits(Limits{KeepBytes: 1})
	if e := <-deleted; e.Room != "young" || e.Reason != "record_keep_size" || d.exists(old) || d.exists(young) {
		t.Errorf("%+v", e)
	}
	cancel()
	<-done
}

// FuzzID parses IDs and cursors: what is accepted names one file in the directory of an app, and has
// the same ID again.
func FuzzID(f *testing.F) {
	for _, id := range []string{"live~movie_1900000000", "a.b~c_d_1", "live~_1", "~", "..~a_1", "live~../a_1", "live/a_1",
		"live~a_01", "live~a_+1", "live~a_99999999999999999999", "live~a_1.flv",
		cursor(fileName{path: "live/a_1.flv", unix: 1})} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if n, err := parseCursor(id); err == nil && id != "" {
			if again, err := parseCursor(cursor(n)); err != nil || again != n {
				t.Errorf("cursor %+v, again %+v, %v", n, again, err)
			}
		}
		n, err := parseID(id)
		if err != nil {
			return
		}
		if got := (domain.Recording{File: n.path}).ID(); got != id {
			t.Errorf("%q has the ID %q", n.path, got)
		}
		if dir, file := filepath.Split(n.path); !filepath.IsLocal(n.path) || dir != n.stream.App+"/" ||
			!strings.HasPrefix(file, n.stream.Room+"_") || n.unix < 0 {
			t.Errorf("%q is the file %q of %v", id, n.path, n.stream)
		}
	})
}
