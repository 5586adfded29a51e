//go:build !linux && !darwin

package record

import (
	"errors"
	"os"
)

// freeShare returns 1: it is not known here.
func freeShare(string) (float64, error) { return 1, nil }

// lock fails always: what cannot be locked is not mended.
func lock(*os.File) error { return errors.ErrUnsupported }

// removed reports false: it is not known here.
func removed(*os.File) bool { return false }
