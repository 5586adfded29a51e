// Package systemd connects the server to its service manager: it takes over listening sockets that
// systemd has opened, and reports its state (sd_notify) and that it works (watchdog). Without
// systemd it does nothing. It does not know what the server does.
package systemd

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are the listening sockets that systemd has passed to this process and keeps open when the
// process ends: connections that arrive meanwhile wait for the next process.
type Sockets struct{ list []socket }

type socket struct {
	name string // FileDescriptorName; by default the name of the socket unit
	net.Listener
}

// PassedSockets returns the sockets that systemd has passed (sd_listen_fds(3)). The caller closes
// them. Only the first call returns any.
func PassedSockets() (*Sockets, error) {
	s := new(Sockets)
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("systemd socket %s: %w", f.Name(), err)
		}
		if _, ok := l.(*net.TCPListener); !ok {
			l.Close()
			s.Close()
			return nil, fmt.Errorf("systemd socket %s: not a TCP socket", f.Name())
		}
		s.list = append(s.list, socket{f.Name(), l})
	}
	return s, nil
}

// Listener returns the socket with this name, or else the one with the port of addr. The caller closes
// it. It returns nil if there is none.
func (s *Sockets) Listener(name, addr string) net.Listener {
	i := slices.IndexFunc(s.list, func(l socket) bool { return l.name == name })
	if _, port, err := net.SplitHostPort(addr); i < 0 && err == nil {
		i = slices.IndexFunc(s.list, func(l socket) bool { return strings.HasSuffix(l.Addr().String(), ":"+port) })
	}
	if i < 0 {
		return nil
	}
	l := s.list[i].Listener
	s.list = slices.Delete(s.list, i, i+1)
	return l
}

// CheckUsed returns an error that names the sockets that are not used.
func (s *Sockets) CheckUsed() error {
	var left []string
	for _, l := range s.list {
		left = append(left, l.name+" ("+l.Addr().String()+")")
	}
	if left == nil {
		return nil
	}
	return fmt.Errorf("systemd sockets that match the name or the port of no listener in the settings: %s",
		strings.Join(left, ", "))
}

// Close closes the sockets that are not used.
func (s *Sockets) Close() {
	for _, l := range s.list {
		l.Close()
	}
	s.list = nil
}
