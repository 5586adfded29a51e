package rtmp

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"livego/internal/container/amf0"
)

// A Request is what a client asks for: the result of all commands up to publish or play.
type Request struct {
	Publish bool // otherwise play

	// App and Name identify the stream, without query. Both are not empty; nothing else is checked.
	// The path in tcUrl is ignored.
	App, Name string

	// Query holds the query parameters of App, Name and tcUrl, encoded; each has one value. Token
	// is the parameter named token. Both are secret; ClearQuery clears them.
	Query, Token string

	StreamID uint32 // message stream ID; 1 for clients that create one only
	FlashVer string // name and version of the client, as it says; at most 256 bytes

	// Enhanced RTMP: the codecs of each kind that the client can decode or forward, "*" for any,
	// nil if it listed none; and its capabilities.
	VideoCodecs, AudioCodecs []string
	CapsEx                   Caps
}

// ClearQuery clears the secrets once a request is authorized, because r lives as long as its
// connection.
func (r *Request) ClearQuery() { r.Query, r.Token = "", "" }

// Caps is a set of capabilities, the value of capsEx (CapsExMask).
type Caps int

// Capabilities of Enhanced RTMP.
const (
	CapsReconnect       Caps = 1 << iota // reconnects to another server on request
	CapsMultitrack                       // supports several tracks of a kind
	CapsModEx                            // skips modifiers that it does not know
	CapsTimestampOffset                  // supports the modifier with a nanosecond offset
)

// CanReconnect reports whether a client can be asked to reconnect.
func (c Caps) CanReconnect() bool { return c&CapsReconnect != 0 }

// Bits of FourCcInfoMask. A client that can only encode a codec cannot play it.
const (
	canDecode  = 1
	canForward = 4
)

// enhanced reports whether the client has announced support of Enhanced RTMP.
func (r *Request) enhanced() bool {
	return r.VideoCodecs != nil || r.AudioCodecs != nil || r.CapsEx != 0
}

// Limits of connect, publish and play, in bytes. The request of a player lives as long as its
// connection.
const (
	maxTcURL = 4 << 10
	// maxQueryBytes is for the names and values of all parameters; the longest token needs less.
	maxQueryBytes = 8 << 10
	fourCCLength  = 4
	maxFlashVer   = 256
)

// A connectInfo is the content of a connect command.
type connectInfo struct {
	req        Request // the fields that connect sets
	params     url.Values
	paramBytes int
}

// parseConnect parses the object of a connect command. The text of the error may be sent to the
// peer.
func parseConnect(o amf0.Object) (*connectInfo, error) {
	text := func(key string) string { s, _ := o.Get(key).(string); return s }
	c := &connectInfo{params: url.Values{}}
	app, query, _ := strings.Cut(text("app"), "?")
	c.req = Request{
		App:         strings.Clone(strings.TrimRight(app, "/")),
		VideoCodecs: fourCCs(o, "videoFourCcInfoMap"),
		AudioCodecs: fourCCs(o, "audioFourCcInfoMap"),
		CapsEx:      capsOf(o),
	}
	if version := text("flashVer"); len(version) <= maxFlashVer {
		c.req.FlashVer = strings.Clone(version)
	}
	if err := c.addQuery(query); err != nil {
		return nil, err
	}
	tcURL := text("tcUrl")
	if tcURL == "" {
		return c, nil
	}
	if len(tcURL) > maxTcURL {
		return nil, fmt.Errorf("invalid tcUrl: exceeds the limit of %d bytes", maxTcURL)
	}
	u, err := url.Parse(tcURL)
	if err != nil || !strings.HasPrefix(u.Scheme, "rtmp") || u.Host == "" {
		return nil, errors.New("invalid tcUrl: not an RTMP address")
	}
	return c, c.addQuery(u.RawQuery)
}

// addQuery adds the parameters in query. Encoders append them to the app, the name or both, so the
// same parameter may repeat. Two different values are an error, because the one that is checked
// might not be the one that is used.
func (c *connectInfo) addQuery(query string) error {
	if len(query) > 3*maxQueryBytes { // every byte escaped
		return errQueryTooLong
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("invalid query: malformed")
	}
	for key, vs := range values {
		for _, v := range vs {
			old, ok := c.params[key]
			if ok && old[0] != v {
				return errors.New("invalid query: different values for one parameter")
			}
			if ok {
				continue
			}
			if c.paramBytes += len(key) + len(v); c.paramBytes > maxQueryBytes {
				return errQueryTooLong
			}
			c.params[strings.Clone(key)] = []string{strings.Clone(v)}
		}
	}
	return nil
}

var errQueryTooLong = fmt.Errorf("invalid query: exceeds the limit of %d bytes", maxQueryBytes)

// fourCCs returns the codecs in a connect object: those in fourCcList, for all kinds (Enhanced RTMP
// v1), and those in the map named name, of one kind (v2). It returns nil if there is neither.
func fourCCs(o amf0.Object, name string) []string {
	var codes []string
	add := func(code string) {
		if len(codes) < maxFourCCs && len(code) <= fourCCLength && !slices.Contains(codes, code) {
			codes = append(codes, strings.Clone(code))
		}
	}
	if list, ok := o.Get("fourCcList").([]any); ok {
		codes = make([]string, 0, 1)
		for _, v := range list {
			if code, ok := v.(string); ok {
				add(code)
			}
		}
	}
	if list, ok := pairsOf(o.Get(name)); ok {
		codes = append(make([]string, 0, 1), codes...)
		for _, p := range list {
			if can, _ := p.Value.(float64); int(numberOrZero(can))&(canDecode|canForward) != 0 {
				add(p.Key)
			}
		}
	}
	return codes
}

func pairsOf(v any) (pairs []amf0.Pair, ok bool) {
	switch v := v.(type) {
	case amf0.Object:
		return v, true
	case amf0.ECMAArray:
		return v, true
	}
	return nil, false
}
