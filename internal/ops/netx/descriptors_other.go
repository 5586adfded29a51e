//go:build !unix

package netx

// descriptorLimit returns how many file descriptors the process may open; 0 for no limit.
func descriptorLimit() int { return unlimitedDescriptors }
