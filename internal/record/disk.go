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
)

// A disk is where files go. Any call may take as long as it likes.
type disk interface {
	// create makes a file for a recording of name that begins now. It returns where it is, with slashes.
	create(name domain.Name, now time.Time) (file, string, error)
	remove(path string)
	free() (float64, error) // the share of the disk that we may fill, 0 to 1
}

// A file is written to in pieces.
type file interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// A directory is a disk: the files of each app are in a directory of it. Paths are looked up so
// that none leads out of it, whatever links somebody has put there. It may be removed and made anew
// at any time.
type directory struct {
	path string
	mode fs.FileMode // of new files; what is there keeps its own
}

const (
	ext = ".flv"
	// maxNameTries is how many names may be taken before none is free: as many files of a room would begin in one second.
	maxNameTries = 1000
)

// DirMode returns the mode of new directories for files of this mode: whoever may read those may list them.
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
		if err := f.Chmod(d.mode); err != nil { // whatever the umask
			return nil, "", errors.Join(err, f.Close(), root.Remove(p))
		}
		_ = tryLock(f) // where files cannot be locked, none is mended either
		return &linkedFile{f}, p, nil
	}
	return nil, "", errors.New("no name is free")
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

// linkedFile is a file that must stay in its directory.
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

// repairFiles brings to an end what a crash left in the directory.
func (r *Recorder) repairFiles(ctx context.Context) {
	d, ok := r.disk.(directory)
	if !ok {
		return
	}
	root, err := d.openRoot()
	if err != nil {
		r.opt.Log.Error("the directory of recordings", "err", err)
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
		r.opt.Log.Error("looking for recordings that were not finished", "err", describe(err))
	}
}

// parseFileName returns the stream that a file of an app has been recorded of, by its name.
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

// repairFile brings a file to an end if it has none and nobody writes it.
func (r *Recorder) repairFile(root *os.Root, name domain.Name, path string) {
	log := r.opt.Log.With("stream", name.String())
	f, err := root.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		log.Error("opening a recording", "file", path, "err", describe(err))
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || tryLock(f) != nil {
		return
	}
	m, err := flv.Repair(f, info.Size())
	switch {
	case errors.Is(err, flv.ErrNotRecording), err == nil && !m.Changed:
		return
	case err != nil:
		log.Error("a recording was not finished, and cannot be", "file", path, "err", describe(err))
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
