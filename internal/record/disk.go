package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"livego/internal/container/flv"
	"livego/internal/domain"
	"livego/internal/ops/logging"
)

// A disk stores files. Any call may block indefinitely.
type disk interface {
	// create creates a file for a recording of name that starts now. It returns the file and its
	// path, with slashes.
	create(name domain.Name, now time.Time) (file, string, error)
	remove(path string)
	free() (float64, error) // free share of the disk, 0 to 1
}

// A file is an open recording.
type file interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// A directory is a disk: it has a subdirectory for each app. Paths cannot lead out of it,
// whatever links it contains. It may be removed and created again at any time.
type directory struct {
	path string
	mode fs.FileMode // of new files; existing files keep theirs
}

const (
	ext = ".flv"
	// maxNameTries is how many names are tried for a new file: that many files of a room would
	// have to start in one second.
	maxNameTries = 1000
)

// DirMode returns the mode of new directories for files of this mode: users that may read the
// files may list them.
func DirMode(files fs.FileMode) fs.FileMode { return files | files&0o444>>2 }

func (d directory) openRoot() (*os.Root, error) {
	if err := os.MkdirAll(d.path, DirMode(d.mode)); err != nil {
		return nil, err
	}
	return os.OpenRoot(d.path)
}

func (d directory) create(name domain.Name, now time.Time) (file, string, error) {
	root, err := d.openRoot()
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = root.Close() }()
	if err := root.MkdirAll(name.App, DirMode(d.mode)); err != nil {
		return nil, "", err
	}
	for n := range int64(maxNameTries) {
		p := path.Join(name.App, fmt.Sprintf("%s_%d%s", name.Room, now.Unix()+n, ext))
		f, err := root.OpenFile(p, os.O_RDWR|os.O_CREATE|os.O_EXCL, d.mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if err := f.Chmod(d.mode); err != nil { // regardless of the umask
			return nil, "", errors.Join(err, f.Close(), root.Remove(p))
		}
		_ = tryLock(f) // without locks, no file is repaired either
		return &linkedFile{f}, p, nil
	}
	return nil, "", errors.New("no file name is free")
}

func (d directory) remove(path string) {
	if root, err := d.openRoot(); err == nil {
		defer func() { _ = root.Close() }()
		_ = root.Remove(path)
	}
}

func (d directory) free() (float64, error) {
	if err := os.MkdirAll(d.path, DirMode(d.mode)); err != nil {
		return 0, err
	}
	return freeFraction(d.path)
}

// A linkedFile is a file whose Sync fails once it was removed from its directory.
type linkedFile struct{ *os.File }

var errRemoved = errors.New("the file was removed")

func (f *linkedFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	if isUnlinked(f.File) {
		return errRemoved
	}
	return nil
}

// repairFiles repairs the files in the directory that a crash left unfinished.
func (r *Recorder) repairFiles(ctx context.Context) {
	d, ok := r.disk.(directory)
	if !ok {
		return
	}
	root, err := d.openRoot()
	if err != nil {
		r.opt.Log.Error("cannot open the recordings directory", "err", err)
		return
	}
	defer func() { _ = root.Close() }()
	apps, err := fs.ReadDir(root.FS(), ".")
	for _, app := range apps {
		files, dirErr := []fs.DirEntry(nil), error(nil)
		if app.IsDir() {
			files, dirErr = fs.ReadDir(root.FS(), app.Name())
		}
		err = errors.Join(err, dirErr)
		for _, f := range files {
			name, ok := parseFileName(app.Name(), f.Name())
			if ctx.Err() != nil {
				return
			}
			if ok && f.Type().IsRegular() {
				r.repairFile(root, name, path.Join(app.Name(), f.Name()))
			}
		}
	}
	if err != nil {
		r.opt.Log.Error("cannot list unfinished recordings", "err", describe(err))
	}
}

// parseFileName returns the stream that was recorded in a file of an app, by the file's name.
func parseFileName(app, file string) (domain.Name, bool) {
	stem, isFLV := strings.CutSuffix(file, ext)
	i := strings.LastIndexByte(stem, '_')
	if !isFLV || i < 0 {
		return domain.Name{}, false
	}
	_, err := strconv.ParseUint(stem[i+1:], 10, 63)
	name, nameErr := domain.ParseName(app, stem[:i])
	return name, err == nil && nameErr == nil
}

// repairFile repairs a file that is unfinished and that no process is writing.
func (r *Recorder) repairFile(root *os.Root, name domain.Name, path string) {
	log := r.opt.Log.With("stream", name.String())
	defer logging.Recover(log) // a damaged file must not stop the server
	f, err := root.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		log.Error("cannot open a recording", "file", path, "err", describe(err))
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || tryLock(f) != nil {
		return
	}
	m, err := flv.Repair(f, info.Size(), string(domain.AfterCrash))
	switch {
	case errors.Is(err, flv.ErrNotRecording), err == nil && !m.Changed:
		return
	case err != nil:
		log.Error("cannot repair a recording", "file", path, "err", describe(err))
		return
	case m.Size == 0:
		_ = root.Remove(path)
		return
	}
	i := domain.Recording{
		Name: name, File: path, Started: info.ModTime().Add(-m.Duration).UTC(), Bytes: m.Size, Duration: m.Duration,
		State: domain.RecordingFinished, Reason: domain.AfterCrash,
	}
	r.reportFinished(i, log)
	r.addEntry(&entry{Recording: i})
}
