package app

import (
	"fmt"
	"net"
	"strings"
	"time"

	"livego/internal/ops/logging"
)

// rtmpPortReply returns the response to an HTTP request on an RTMP port. It lists the HTTP ports;
// viewers are their listeners.
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

// logWrongProtocol returns a function that logs clients of the HTTP listener l that speak another
// protocol, once a second for each protocol.
func (a *App) logWrongProtocol(l listener) func(protocol string, client net.Addr) {
	limiter := &logging.Limiter{Interval: time.Second}
	return func(protocol string, client net.Addr) {
		if _, ok := limiter.Allow(protocol); ok {
			a.log.Warn("connection closed", "proto", "http", "remote", client.String(),
				"reason", fmt.Sprintf("the client speaks %s on an HTTP port: %s has its own port", protocol, protocol),
				"listener", l.String())
		}
	}
}
