//go:build !unix

package app

// descriptors returns how many descriptors the process may have; 0 for any number.
func descriptors() int { return descriptorsUnknown }
