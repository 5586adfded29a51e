//go:build !linux && !darwin

package record

import (
	"errors"
	"os"
)

// freeSpace returns 0 and 0: free space is unknown on this system.
func freeSpace(string) (free, size int64, err error) { return 0, 0, nil }

// tryLock always fails on this system: without locks, no file is repaired.
func tryLock(*os.File) error { return errors.ErrUnsupported }

// isUnlinked always returns false on this system.
func isUnlinked(*os.File) bool { return false }
