package stream

import (
	"strings"

	"livego/internal/domain"
)

// maxText bounds each text that statistics keep of a connection, in bytes: a scheme, the longest
// host name with a port, and the longest names of an app and a room. This is the one place where
// such texts enter the hub, whatever the protocol; a client chooses most of their letters.
const maxText = 640

// truncate returns what is truncate of s: its beginning, in memory of its own, since s may be a
// piece of a whole request.
func truncate(s string) string { return strings.Clone(domain.Shorten(s, maxText)) }

func (o ViewerOptions) truncated() ViewerOptions {
	o.Remote, o.URL = truncate(o.Remote), truncate(o.URL)
	return o
}

func (o PublishOptions) truncated() PublishOptions {
	o.Remote, o.URL = truncate(o.Remote), truncate(o.URL)
	return o
}
