//go:build unix

package netx

import (
	"math"
	"syscall"
)

// descriptorLimit returns how many descriptors the process may have; 0 for any number.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return unlimitedDescriptors
	}
	return int(min(uint64(limit.Cur), math.MaxInt32)) //nolint:unconvert // it is signed on some systems
}
