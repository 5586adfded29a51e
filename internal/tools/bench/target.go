package bench

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Protocols that viewers play by.
const (
	RTMP = "rtmp"
	FLV  = "flv" // over HTTP
	WS   = "ws"  // FLV over WebSocket
	HLS  = "hls"

	LLHLS = "llhls" // HLS with low latency: parts, and playlists that are waited for
)

// A target is an address that is played or published to.
type target struct {
	url   string
	proto string
	tls   bool
	addr  string // host:port to connect to
	host  string // as the URL has it
	path  string // with the query, of HTTP

	app, tcURL, name string // of RTMP
}

// tcp is the protocol of what takes FLV over plain TCP from a publisher, as bench/floor.c does.
const tcp = "tcp"

// lowLatency, in front of the address of a playlist, asks for LLHLS.
const lowLatency = LLHLS + "+"

func parseTarget(raw string) (*target, error) {
	raw, low := strings.CutPrefix(raw, lowLatency)
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no address: rtmp://host/app/name, http://host/app/name.flv and so on", raw)
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
		return nil, fmt.Errorf("%q: no scheme that is known: rtmp, rtmps, http, https, ws, wss", raw)
	}
	if strings.HasSuffix(u.Scheme, "s") && u.Scheme != "ws" {
		t.tls, port = true, "443"
	}
	t.addr = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	if t.proto == RTMP {
		// The name is what follows the last slash: an app may have instances.
		app, name, ok := cutLast(strings.TrimPrefix(t.path, "/"))
		if !ok {
			return nil, fmt.Errorf("%q: want rtmp://host/app/name", raw)
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
