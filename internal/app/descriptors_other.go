//go:build !unix

package app

// descriptorLimit returns how many descriptorLimit the process may have; 0 for any number.
func descriptorLimit() int { return unlimitedDescriptors }
