package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"livego/internal/domain"
)

// A disk stores files. Any call may block indefinitely.
type disk interface {
	// create creates a file for a recording of name that starts now. It returns the file and its
	// path, with slashes.
	create(name domain.Name, now time.Time) (file, string, error)
	remove(path string)
	// free returns the free space and the size of the disk in bytes; size 0 if they are unknown.
	free() (free, size int64, err error)
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

func (d directory) create(name domain.Name, now time.Time) (file, string, error) {
	err := os.MkdirAll(d.path, DirMode(d.mode))
	if err != nil {
		return nil, "", err
	}
	root, err := os.OpenRoot(d.path)
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
	if root, err := os.OpenRoot(d.path); err == nil {
		defer func() { _ = root.Close() }()
		_ = root.Remove(path)
	}
}

func (d directory) free() (free, size int64, err error) {
	if err := os.MkdirAll(d.path, DirMode(d.mode)); err != nil {
		return 0, 0, err
	}
	return freeSpace(d.path)
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
