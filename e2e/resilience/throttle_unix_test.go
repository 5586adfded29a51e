//go:build unix

package resilience

import (
	"errors"
	"syscall"
)

// limitBuffers gives a socket that is not connected yet a small receive buffer and small TCP
// segments.
func limitBuffers(_, _ string, raw syscall.RawConn) (err error) {
	const ethernet = 1448
	control := raw.Control(func(fd uintptr) {
		err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, ethernet),
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10))
	})
	return errors.Join(control, err)
}
