//go:build !linux && !darwin

package record

import (
	"errors"
	"os"
)

// freeFraction returns 1: it is not known here.
func freeFraction(string) (float64, error) { return 1, nil }

// tryLock fails always: what cannot be locked is not mended.
func tryLock(*os.File) error { return errors.ErrUnsupported }

// isUnlinked reports false: it is not known here.
func isUnlinked(*os.File) bool { return false }
