package stream

import (
	"strings"

	"livego/internal/live"
)

// maxKept bounds each text that statistics keep of a connection, in bytes: a scheme, the longest host name with a port, and the longest
// names of an app and a room. This is the one place where such texts enter the hub, whatever the protocol; a client chooses most of
// their letters.
const maxKept = 640

// kept returns what is kept of s: its beginning, in memory of its own, since s may be a piece of a whole request.
func kept(s string) string { return strings.Clone(live.Shorten(s, maxKept)) }

func (o ViewerOptions) bounded() ViewerOptions {
	o.Remote, o.URL = kept(o.Remote), kept(o.URL)
	return o
}

func (o PublishOptions) bounded() PublishOptions {
	o.Remote, o.URL = kept(o.Remote), kept(o.URL)
	return o
}
