//go:build !unix

package resilience

import "syscall"

// limitBuffers does nothing on this system.
func limitBuffers(_, _ string, _ syscall.RawConn) error { return nil }
