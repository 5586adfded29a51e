package rtmp

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// An Address is the address of a stream: rtmp://host[:port]/app[/instance][?query]/name[?query], or
// rtmps. Each part stays as it is written in the URL, escapes included, so that a server receives
// the same bytes from ffmpeg and from livego.
type Address struct {
	Host  string // host:port to connect to
	TLS   bool
	App   string // with the instance, and a query that precedes the name
	Name  string // with its query, or a query alone
	TCURL string // the address up to the app, without user and password
}

// ErrInvalidAddress reports an address that has no app or no stream name, or another scheme.
var ErrInvalidAddress = errors.New("invalid RTMP address: use rtmp://host/app/name")

// ParseAddress parses an rtmp or rtmps URL; it returns ErrInvalidAddress for anything else. It
// splits path and query as ffmpeg does (rtmp_open in libavformat/rtmpproto.c): every slash counts,
// including those in a query.
func ParseAddress(u *url.URL) (Address, error) {
	a := Address{TLS: u.Scheme == "rtmps"}
	if u.Scheme != "rtmp" && !a.TLS || u.Hostname() == "" {
		return Address{}, ErrInvalidAddress
	}
	a.App, a.Name = splitPath(strings.TrimPrefix(rawPath(u), "/"))
	if a.App == "" || a.Name == "" {
		return Address{}, ErrInvalidAddress
	}
	port := u.Port()
	switch {
	case port != "":
	case a.TLS:
		port = "443"
	default:
		port = "1935"
	}
	a.Host = net.JoinHostPort(u.Hostname(), port)
	a.TCURL = u.Scheme + "://" + a.Host + "/" + a.App
	return a, nil
}

// rawPath returns the path and the query of u as written.
func rawPath(u *url.URL) string {
	path := u.RawPath
	if path == "" {
		path = u.EscapedPath()
	}
	if u.RawQuery != "" || u.ForceQuery {
		path += "?" + u.RawQuery
	}
	path, _, _ = strings.Cut(path, " ") // options of librtmp
	return path
}

// splitPath splits a path into app and name. The name starts after the second slash, the one behind
// the instance. It starts after the first slash if there is no second, or if a prefix such as mp4:
// precedes the second.
func splitPath(path string) (app, name string) {
	_, query, _ := strings.Cut(path, "?")
	switch _, list, listed := strings.Cut(query, "slist="); {
	case listed:
		app = path
		name, _, _ = strings.Cut(list, "&")
	case strings.HasPrefix(path, "ondemand/"):
		app, name, _ = strings.Cut(path, "/")
	default:
		app, name, _ = strings.Cut(path, "/")
		if instance, rest, ok := strings.Cut(name, "/"); ok && !strings.Contains(instance, ":") {
			app, name = app+"/"+instance, rest
		}
	}
	if hasPrefix := strings.Contains(name, ":"); !hasPrefix &&
		(strings.HasSuffix(name, ".mp4") || strings.HasSuffix(name, ".f4v")) {
		name = "mp4:" + name
	} else {
		name = strings.TrimSuffix(name, ".flv")
	}
	return app, name
}
