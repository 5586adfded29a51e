//go:build !linux && !darwin

package record

import (
	"errors"
	"os"
)

// freeFraction returns 1: free space is unknown on this system.
func freeFraction(string) (float64, error) { return 1, nil }

// tryLock always fails on this system: without locks, no file is repaired.
func tryLock(*os.File) error { return errors.ErrUnsupported }

// isUnlinked always returns false on this system.
func isUnlinked(*os.File) bool { return false }
