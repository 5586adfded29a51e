package record

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/ops/logging"
)

// diskTimeout is how long a request waits for the disk.
const diskTimeout = 10 * time.Second

// A fileName is the name of a file that may be a recording.
type fileName struct {
	stream domain.Name
	path   string // below the directory, with slashes
	unix   int64  // the seconds in the name: the start of the recording, or up to maxNameTries later
}

// compareFileNames orders files from the newest to the oldest.
func compareFileNames(a, b fileName) int {
	return cmp.Or(cmp.Compare(b.unix, a.unix), cmp.Compare(b.path, a.path))
}

// parseFileName parses the name of a file in the directory of an app.
func parseFileName(app, file string) (fileName, bool) {
	stem, isFLV := strings.CutSuffix(file, ext)
	i := strings.LastIndexByte(stem, '_')
	if !isFLV || i < 0 {
		return fileName{}, false
	}
	unix, err := strconv.ParseUint(stem[i+1:], 10, 62)
	name, nameErr := domain.ParseName(app, stem[:i])
	return fileName{name, path.Join(app, file), int64(unix)}, err == nil && nameErr == nil
}

// parseID returns the name of the recording with this ID.
func parseID(id string) (fileName, error) {
	app, stem, _ := strings.Cut(id, domain.RecordingIDSeparator)
	if n, ok := parseFileName(app, stem+ext); ok {
		return n, nil
	}
	return fileName{}, errNoRecording
}

var errNoRecording = domain.Errorf(domain.NotFound, "there is no such recording")

// names returns the files that may be recordings. A missing directory has none.
func (d directory) names(ctx context.Context) (list []fileName, err error) {
	root, err := os.OpenRoot(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	apps, err := fs.ReadDir(root.FS(), ".")
	for _, app := range apps {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !app.IsDir() {
			continue
		}
		files, dirErr := fs.ReadDir(root.FS(), app.Name())
		if !errors.Is(dirErr, fs.ErrNotExist) { // it may have been removed meanwhile
			err = errors.Join(err, dirErr)
		}
		for _, f := range files {
			if name, ok := parseFileName(app.Name(), f.Name()); ok && f.Type().IsRegular() {
				list = append(list, name)
			}
		}
	}
	return list, err
}

// open opens a regular file. It follows no symlink.
func (d directory) open(n fileName, flag int) (*os.Root, *os.File, fs.FileInfo, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, nil, nil, err
	}
	f, info, err := openRegular(root, n, flag)
	if err != nil {
		_ = root.Close()
		return nil, nil, nil, err
	}
	return root, f, info, nil
}

func openRegular(root *os.Root, n fileName, flag int) (*os.File, fs.FileInfo, error) {
	before, err := lstatRegular(root, n)
	if err != nil {
		return nil, nil, err
	}
	f, err := root.OpenFile(n.path, flag, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) { // replaced, perhaps by a symlink
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// lstatRegular returns the description of a regular file in a directory that is no symlink.
func lstatRegular(root *os.Root, n fileName) (fs.FileInfo, error) {
	dir, err := root.Lstat(n.stream.App)
	if err != nil {
		return nil, err
	}
	if !dir.IsDir() {
		return nil, fs.ErrNotExist
	}
	info, err := root.Lstat(n.path)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	return info, err
}

// errForeign is the error for a file that livego did not write at this path.
var errForeign = errors.New("not a recording by livego")

// describeFile returns the recording in a file by its head. A file that has another path than when
// it was recorded is a copy or was renamed by the operator, and is no recording any more.
func describeFile(f *os.File, info fs.FileInfo, n fileName) (domain.Recording, error) {
	i, err := flv.ReadFileInfo(f, info.Size())
	if errors.Is(err, flv.ErrNotRecording) || err == nil && i.Mark.File != n.path {
		return domain.Recording{}, errForeign
	}
	if err != nil {
		return domain.Recording{}, err
	}
	r := domain.Recording{
		Name: n.stream, File: n.path, Started: i.Mark.Started, Bytes: info.Size(), Duration: i.Duration, Gaps: i.Mark.Gaps,
		State: domain.RecordingUnfinished, Reason: domain.RecordingReason(i.Mark.Reason), Error: i.Mark.Error,
	}
	if i.Complete {
		r.State = domain.RecordingFinished
	}
	return r, nil
}

// describeIn returns the recording in a file of a directory.
func describeIn(root *os.Root, n fileName) (domain.Recording, error) {
	f, info, err := openRegular(root, n, os.O_RDONLY)
	if err != nil {
		return domain.Recording{}, err
	}
	defer f.Close()
	return describeFile(f, info, n)
}

// describe returns the recording in a file.
func (d directory) describe(n fileName) (domain.Recording, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return domain.Recording{}, err
	}
	defer func() { _ = root.Close() }()
	return describeIn(root, n)
}

// deleteRecording deletes the file of a recording that no process writes.
func (d directory) deleteRecording(n fileName) (domain.Recording, error) {
	root, f, info, err := d.open(n, os.O_RDWR) // some systems lock files that are open for writing only
	if err != nil {
		return domain.Recording{}, err
	}
	defer func() { _ = errors.Join(f.Close(), root.Close()) }()
	r, err := describeFile(f, info, n)
	if err != nil {
		return r, err
	}
	if err := tryLock(f); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return r, domain.Errorf(domain.Conflict, "another process is writing the recording")
	}
	now, err := lstatRegular(root, n)
	if err == nil && !os.SameFile(now, info) {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = root.Remove(n.path)
	}
	return r, err
}

// onDisk returns what f returns. It does not wait longer than diskTimeout for a disk that does not
// respond: f then continues without it.
func onDisk[T any](ctx context.Context, r *Recorder, f func() (T, error)) (v T, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, diskTimeout,
		domain.Errorf(domain.Unavailable, "the disk of the recordings does not respond"))
	defer cancel()
	select {
	case r.diskOps <- struct{}{}:
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		var out result
		defer func() {
			if p := recover(); p != nil { // a damaged file must not stop the server
				r.opt.Log.Error("panic", "panic", p, "stack", string(debug.Stack()))
				out.err = errors.New("panic")
			}
			<-r.diskOps
			done <- out
		}()
		out.v, out.err = f()
	}()
	select {
	case out := <-done:
		return out.v, requestError(out.err)
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}

// requestError returns the client's error for an error of a file.
func requestError(err error) error {
	switch {
	case err == nil, domain.KindOf(err) != domain.Internal:
		return err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errForeign):
		return errNoRecording
	}
	return domain.Errorf(domain.Unavailable, "the disk of the recordings has failed: %s", describe(err))
}

// List returns at most limit recordings that pass the filter, the newest first, and the cursor of
// the next page, "" on the last. after is the cursor of this page, "" for the first. A recording
// without a file counts as new as its start. Errors are of kind Invalid (the cursor) or Unavailable.
func (r *Recorder) List(ctx context.Context, f domain.RecordingFilter, after string, limit int) (
	list []domain.Recording, next string, err error) {
	from, err := parseCursor(after)
	if err != nil {
		return nil, "", err
	}
	switch f.State {
	case domain.RecordingActive, domain.RecordingStalled, domain.RecordingWaiting: // the disk is not needed
		p, err := r.page(ctx, f, from, limit, nil, nil)
		return p.list, p.next, err
	}
	p, err := onDisk(ctx, r, func() (page, error) {
		names, err := r.dir.names(ctx)
		if err != nil {
			return page{}, err
		}
		root, err := os.OpenRoot(r.dir.path)
		if errors.Is(err, fs.ErrNotExist) {
			return r.page(ctx, f, from, limit, nil, nil)
		}
		if err != nil {
			return page{}, err
		}
		defer func() { _ = root.Close() }()
		return r.page(ctx, f, from, limit, names, func(n fileName) (domain.Recording, error) { return describeIn(root, n) })
	})
	return p.list, p.next, err
}

// A page is a part of a list, and the cursor of the next.
type page struct {
	list []domain.Recording
	next string
}

// page returns the page after from of the files with these names, which describe reads, and of the
// current recordings.
func (r *Recorder) page(ctx context.Context, f domain.RecordingFilter, from fileName, limit int, names []fileName,
	describe func(fileName) (domain.Recording, error)) (p page, err error) {
	current := map[fileName]domain.Recording{}
	for _, c := range r.current() {
		n := nameOf(c)
		current[n], names = c, append(names, n)
	}
	names = slices.DeleteFunc(names, func(n fileName) bool {
		return from != (fileName{}) && compareFileNames(n, from) <= 0 || !mayPass(f, n)
	})
	slices.SortFunc(names, compareFileNames)
	names = slices.Compact(names)
	var last fileName
	for _, n := range names {
		if ctx.Err() != nil {
			return p, ctx.Err()
		}
		c, ok := current[n]
		if !ok {
			if c, err = describe(n); err != nil {
				continue // deleted meanwhile, foreign, or unreadable
			}
		}
		if !passes(f, c) {
			continue
		}
		if len(p.list) == limit {
			p.next = cursor(last)
			break
		}
		p.list, last = append(p.list, c), n
	}
	return p, nil
}

// nameOf returns the name of a current recording, which may have no file yet.
func nameOf(c domain.Recording) fileName {
	app, file := path.Split(c.File)
	if n, ok := parseFileName(strings.TrimSuffix(app, "/"), file); ok {
		return n
	}
	return fileName{stream: c.Name, path: c.Name.String(), unix: c.Started.Unix()}
}

// mayPass reports whether a file of this name may pass the filter.
func mayPass(f domain.RecordingFilter, n fileName) bool {
	return (f.App == "" || f.App == n.stream.App) && (f.Room == "" || f.Room == n.stream.Room) &&
		(f.Since.IsZero() || n.unix >= f.Since.Unix()) && (f.Until.IsZero() || n.unix-maxNameTries <= f.Until.Unix())
}

// passes reports whether a recording passes the filter.
func passes(f domain.RecordingFilter, c domain.Recording) bool {
	return (f.State == "" || f.State == c.State) && (f.Since.IsZero() || !c.Started.Before(f.Since)) &&
		(f.Until.IsZero() || !c.Started.After(f.Until))
}

// cursor returns the cursor of the page after n.
func cursor(n fileName) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", n.unix, n.path))
}

func parseCursor(text string) (n fileName, err error) {
	if text == "" {
		return n, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	seconds, path, ok := strings.Cut(string(b), " ")
	unix, numErr := strconv.ParseInt(seconds, 10, 64)
	if err != nil || numErr != nil || !ok {
		return n, domain.Errorf(domain.Invalid, "invalid cursor")
	}
	return fileName{path: path, unix: unix}, nil
}

// Get returns the recording with this ID. Errors are of kind NotFound or Unavailable.
func (r *Recorder) Get(ctx context.Context, id string) (domain.Recording, error) {
	n, err := parseID(id)
	if err != nil {
		return domain.Recording{}, err
	}
	if c, ok := r.findCurrent(n); ok {
		return c, nil
	}
	return onDisk(ctx, r, func() (domain.Recording, error) { return r.dir.describe(n) })
}

// Open returns the recording with this ID and its file, which the caller must close. Of a current
// recording, only the first Bytes bytes are valid. Errors are as for Get.
func (r *Recorder) Open(ctx context.Context, id string) (domain.Recording, *os.File, error) {
	n, err := parseID(id)
	if err != nil {
		return domain.Recording{}, nil, err
	}
	type opened struct {
		domain.Recording
		f *os.File
	}
	current, isCurrent := r.findCurrent(n)
	o, err := onDisk(ctx, r, func() (o opened, err error) {
		root, f, info, err := r.dir.open(n, os.O_RDONLY)
		if err != nil {
			return o, err
		}
		_ = root.Close()
		if o.Recording, err = describeFile(f, info, n); err != nil {
			return o, errors.Join(err, f.Close())
		}
		o.f = f
		return o, nil
	})
	if err == nil && isCurrent && o.State != domain.RecordingFinished {
		o.Recording = current
	}
	return o.Recording, o.f, err
}

// Delete deletes the recording with this ID. Errors are of kind NotFound, Conflict (it is running)
// or Unavailable.
func (r *Recorder) Delete(ctx context.Context, id string) error {
	n, err := parseID(id)
	if err != nil {
		return err
	}
	if _, ok := r.findCurrent(n); ok {
		return domain.Errorf(domain.Conflict, "the recording is running: it can be deleted when its stream has ended")
	}
	c, err := onDisk(ctx, r, func() (domain.Recording, error) { return r.dir.deleteRecording(n) })
	if err == nil {
		r.reportDeleted(c, "request")
	}
	return err
}

// findCurrent returns the current recording to a file.
func (r *Recorder) findCurrent(n fileName) (domain.Recording, bool) {
	list := r.current()
	i := slices.IndexFunc(list, func(c domain.Recording) bool { return c.File == n.path })
	if i < 0 {
		return domain.Recording{}, false
	}
	return list[i], true
}

// repairFiles repairs the files in the directory that a crash left unfinished.
func (r *Recorder) repairFiles(ctx context.Context) {
	names, err := r.dir.names(ctx)
	for _, n := range names {
		if ctx.Err() != nil {
			return
		}
		r.repairFile(n)
	}
	if err != nil {
		r.opt.Log.Error("cannot list unfinished recordings", "err", describe(err))
	}
}

// repairFile repairs a file that is unfinished and that no process is writing.
func (r *Recorder) repairFile(n fileName) {
	log := r.opt.Log.With("stream", n.stream.String())
	defer logging.Recover(log) // a damaged file must not stop the server
	root, f, info, err := r.dir.open(n, os.O_RDWR)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Error("cannot open a recording", "file", n.path, "err", describe(err))
		}
		return
	}
	defer func() { _ = errors.Join(f.Close(), root.Close()) }()
	if i, err := flv.ReadFileInfo(f, info.Size()); err != nil || i.Complete ||
		i.Mark.File != "" && i.Mark.File != n.path || tryLock(f) != nil {
		return
	}
	m, err := flv.Repair(f, info.Size(), string(domain.AfterCrash))
	switch {
	case err != nil:
		log.Error("cannot repair a recording", "file", n.path, "err", describe(err))
	case m.Changed && m.Size == 0: // without media
		_ = root.Remove(n.path)
	case m.Changed:
		info, err := f.Stat()
		if err != nil {
			return
		}
		if c, err := describeFile(f, info, n); err == nil {
			r.reportFinished(c, log)
		}
	}
}
