package stream

import (
	"strings"

	"livego/internal/domain"
)

// maxText is the limit in bytes of each text that statistics keep of a connection: a scheme, the
// longest host name with a port, and the longest names of an app and a room. All such texts enter
// the hub here, whatever the protocol, and a client chooses most of their bytes.
const maxText = 640

// maxAgent is the limit in bytes of the name of a client.
const maxAgent = 256

// truncate returns the start of s in memory of its own, because s may be part of a whole request.
func truncate(s string) string { return strings.Clone(domain.Shorten(s, maxText)) }

// truncateAgent is truncate for the name of a client. Those of browsers have up to 150 bytes.
func truncateAgent(s string) string { return strings.Clone(domain.Shorten(s, maxAgent)) }

func (o ViewerOptions) truncated() ViewerOptions {
	o.Remote, o.URL, o.Agent = truncate(o.Remote), truncate(o.URL), truncateAgent(o.Agent)
	return o
}

func (o PublishOptions) truncated() PublishOptions {
	o.Remote, o.URL, o.Agent = truncate(o.Remote), truncate(o.URL), truncateAgent(o.Agent)
	return o
}
