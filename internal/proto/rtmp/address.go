package rtmp

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// An Address is where a stream is: rtmp://host[:port]/app[/instance][?arguments]/name[?arguments],
// or rtmps. Each part is as it stands in the URL, escapes included: servers get from ffmpeg and
// from us the same bytes.
type Address struct {
	Host  string // host:port to connect to
	TLS   bool
	App   string // with the instance, and arguments that stand before the name
	Name  string // with arguments, or of arguments alone
	TCURL string // the address up to the app, without user and password
}

// ErrInvalidAddress is said of an address that cannot be that of a stream.
var ErrInvalidAddress = errors.New("an RTMP address has the form rtmp://host/app/name")

// ParseAddress reads an rtmp or rtmps URL; anything else is ErrInvalidAddress. It divides path and
// query as ffmpeg does (rtmp_open in libavformat/rtmpproto.c): slashes count wherever they stand,
// in arguments too.
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

// rawPath returns the path and the query of u as they were written.
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

// splitPath divides a path into app and name. The name begins after the second slash, the one
// behind the instance; after the first where there is no second, or where a prefix such as mp4:
// stands before it.
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
