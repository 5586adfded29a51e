package rtmp

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// An Address is where a stream is: rtmp://host[:port]/app[/instance]/name[?query], or rtmps.
type Address struct {
	Host  string // host:port to connect to
	TLS   bool
	App   string // with the instance
	Name  string // with the query
	TCURL string // the address up to the app, without user and password
}

// ErrAddress is said of an address that cannot be that of a stream.
var ErrAddress = errors.New("an RTMP address has the form rtmp://host/app/name")

// ParseAddress reads an rtmp or rtmps URL; anything else is ErrAddress.
func ParseAddress(u *url.URL) (Address, error) {
	a := Address{TLS: u.Scheme == "rtmps"}
	app, name, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if i := strings.LastIndex(name, "/"); i >= 0 {
		app, name = app+"/"+name[:i], name[i+1:]
	}
	if u.Scheme != "rtmp" && !a.TLS || !ok || app == "" || name == "" || u.Hostname() == "" {
		return Address{}, ErrAddress
	}
	if u.RawQuery != "" {
		name += "?" + u.RawQuery
	}
	port := u.Port()
	switch {
	case port != "":
	case a.TLS:
		port = "443"
	default:
		port = "1935"
	}
	a.App, a.Name, a.Host, a.TCURL = app, name, net.JoinHostPort(u.Hostname(), port), u.Scheme+"://"+u.Host+"/"+app
	return a, nil
}
