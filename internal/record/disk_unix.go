//go:build linux || darwin

package record

import (
	"os"
	"syscall"
)

// freeFraction returns the share of the disk with path that this process may fill, 0 to 1.
func freeFraction(path string) (float64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	if s.Blocks == 0 { // the file system does not say
		return 1, nil
	}
	return float64(s.Bavail) / float64(s.Blocks), nil
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
