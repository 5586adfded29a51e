//go:build linux || darwin

package record

import (
	"os"
	"syscall"
)

// freeSpace returns how many bytes this process may still write to the disk with path, and the
// size of the disk; 0 and 0 if the file system does not say.
func freeSpace(path string) (free, size int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	block := int64(s.Bsize) //nolint:unconvert // its type depends on the system
	return int64(s.Bavail) * block, int64(s.Blocks) * block, nil
}

// tryLock locks f. It fails if another process has locked it.
func tryLock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// isUnlinked reports whether f is in no directory any more.
func isUnlinked(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && s.Nlink == 0
}
