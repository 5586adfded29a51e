package bench

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Protocols of viewers.
const (
	RTMP = "rtmp"
	FLV  = "flv" // over HTTP
	WS   = "ws"  // FLV over WebSocket
	HLS  = "hls"

	LLHLS = "llhls" // HLS with low latency: parts, and blocking playlist reload
)

// A target is an address to play or publish to.
type target struct {
	url   string
	proto string
	tls   bool
	http2 bool   // for HTTP with TLS
	addr  string // host:port to connect to
	host  string // as in the URL
	path  string // path and query for HTTP

	app, tcURL, name string // for RTMP
}

// protocol returns the protocol with what is below it, such as "rtmps" or "h2-hls".
func (t *target) protocol() string {
	switch {
	case t.http2:
		return "h2-" + t.proto
	case t.tls && (t.proto == RTMP || t.proto == WS):
		return t.proto + "s"
	case t.tls:
		return "https-" + t.proto
	}
	return t.proto
}

// tcp is plain FLV over TCP from a publisher, as bench/floor.c reads it.
const tcp = "tcp"

// lowLatencyPrefix, before the address of a playlist, selects LLHLS.
const lowLatencyPrefix = LLHLS + "+"

func parseTarget(raw string) (*target, error) {
	raw, low := strings.CutPrefix(raw, lowLatencyPrefix)
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("invalid address %q: want for example rtmp://host/app/name or http://host/app/name.flv", raw)
	}
	t := &target{url: raw, host: u.Host, path: u.RequestURI()}
	port := ""
	switch u.Scheme {
	case "rtmp", "rtmps":
		t.proto, port = RTMP, "1935"
	case "http", "https":
		t.proto, port = FLV, "80"
		if strings.HasSuffix(u.Path, ".m3u8") {
			if t.proto = HLS; low {
				t.proto = LLHLS
			}
		}
	case "ws", "wss":
		t.proto, port = WS, "80"
	case tcp:
		t.proto = tcp
	default:
		return nil, fmt.Errorf("invalid address %q: unknown scheme: want rtmp, rtmps, http, https, ws or wss", raw)
	}
	if strings.HasSuffix(u.Scheme, "s") && u.Scheme != "ws" {
		t.tls, port = true, "443"
	}
	t.addr = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	if t.proto == RTMP {
		// The name follows the last slash: an app may have instances.
		app, name, ok := cutLast(strings.TrimPrefix(t.path, "/"))
		if !ok {
			return nil, fmt.Errorf("invalid address %q: want rtmp://host/app/name", raw)
		}
		t.app, t.name = app, name
		t.tcURL = u.Scheme + "://" + u.Host + "/" + app
	}
	return t, nil
}

// cutLast cuts s at the last slash before the query.
func cutLast(s string) (before, after string, ok bool) {
	path, _, _ := strings.Cut(s, "?")
	i := strings.LastIndexByte(path, '/')
	if i < 1 || i == len(path)-1 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
