package app

import (
	"fmt"
	"net"
	"strings"
	"time"

	"livego/internal/ops/logging"
)

// rtmpPortReply returns what a client that speaks HTTP is sent on a port of RTMP: where the ports
// of HTTP are. viewers are their listeners.
func rtmpPortReply(viewers []listener) []byte {
	var text strings.Builder
	text.WriteString("This port speaks RTMP, not HTTP. This server serves viewers by HTTP on other ports:\n")
	for _, l := range viewers {
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			continue
		}
		suffix := "flv"
		if l.service != "HTTP-FLV" {
			suffix = "m3u8"
		}
		fmt.Fprintf(&text, "%s: %sHOST:%s/APP/ROOM.%s\n", l.service, scheme(l.secure), port, suffix)
	}
	return fmt.Appendf(nil, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "+
		"%d\r\nCache-Control: no-store\r\n"+
		"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n%s", text.Len(), text.String())
}

// logWrongProtocol returns what logs clients of l, a listener of HTTP, that speak another protocol: each once a second.
func (a *App) logWrongProtocol(l listener) func(protocol string, client net.Addr) {
	once := &logging.Limiter{Interval: time.Second}
	return func(protocol string, client net.Addr) {
		if _, ok := once.Allow(protocol); ok {
			a.log.Warn("connection closed", "proto", "http", "remote", client.String(),
				"reason", fmt.Sprintf("the client speaks %s on a port of HTTP: %s has its own port", protocol, protocol),
				"listener", l.String())
		}
	}
}
