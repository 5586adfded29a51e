package rtmp

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"livego/internal/container/amf0"
)

// A Request is what a client wants, after all commands up to publish or play.
type Request struct {
	Publish bool // else play

	// App and Name are the client's identity, without query; both are not empty and nothing else is known of them. What
	// tcUrl says besides counts for nothing.
	App, Name string

	// Query holds the arguments that stood after App, Name and in tcUrl, encoded; none has two values.
	// Token is the one named token. Both are secret; ClearQuery lets go of them.
	Query, Token string

	Type           string  // of a publish: live, record, append; to be treated alike
	Start          float64 // of a play, in seconds; -2 live or recorded, -1 live, also when the client sent none
	StreamID       uint32  // message stream; 1 for all clients that open one only
	FlashVer       string  // what the client calls itself, at most 256 bytes, any of them
	ObjectEncoding float64 // 0 AMF0, 3 AMF3: what the client would like; it gets AMF0

	// Enhanced RTMP: the codecs of each kind that the client can do something with, "*" for any, nil
	// where it did not say; and what else it can.
	VideoCodecs, AudioCodecs []string
	CapsEx                   Caps
}

// ClearQuery lets go of what has served its purpose once a request is granted: the rest of r lives
// as long as its connection.
func (r *Request) ClearQuery() { r.Query, r.Token = "", "" }

// Caps are the capabilities in capsEx (CapsExMask).
type Caps int

// Capabilities.
const (
	CapsReconnect       Caps = 1 << iota // goes to another server when it is asked to
	CapsMultitrack                       // reads several tracks of a kind
	CapsModEx                            // passes over modifiers that it does not know
	CapsTimestampOffset                  // and knows the one that splits milliseconds
)

// FourCcInfoMask: what a client can do with a codec. Who can only encode it cannot play it.
const (
	canDecode  = 1
	canForward = 4
)

// enhanced reports whether the client has shown that it speaks Enhanced RTMP.
func (r *Request) enhanced() bool {
	return r.VideoCodecs != nil || r.AudioCodecs != nil || r.CapsEx != 0
}

// Limits of what a client says in connect, publish and play, in bytes. A player's request lives as
// long as its connection.
const (
	maxTcURL      = 4 << 10
	maxFlashVer   = 256
	maxQueryBytes = 8 << 10 // all names and values that stand after App, Name and in tcUrl: the longest token, and more
	fourCCLength  = 4
)

// A connectInfo is what a client's connect said.
type connectInfo struct {
	req        Request // as far as connect tells
	params     url.Values
	paramBytes int
}

// parseConnect reads the object of a connect command. The error's text may go to the peer.
func parseConnect(o amf0.Object) (*connectInfo, error) {
	text := func(key string) string { s, _ := o.Get(key).(string); return s }
	c := &connectInfo{params: url.Values{}}
	app, query, _ := strings.Cut(text("app"), "?")
	c.req = Request{
		App:            strings.Clone(strings.TrimRight(app, "/")),
		FlashVer:       strings.Clone(text("flashVer")[:min(len(text("flashVer")), maxFlashVer)]),
		ObjectEncoding: numberOrZero(o.Get("objectEncoding")),
		VideoCodecs:    fourCCs(o, "videoFourCcInfoMap"),
		AudioCodecs:    fourCCs(o, "audioFourCcInfoMap"),
		CapsEx:         capsOf(o),
	}
	if err := c.addQuery(query); err != nil {
		return nil, err
	}
	tcURL := text("tcUrl")
	if tcURL == "" {
		return c, nil
	}
	if len(tcURL) > maxTcURL {
		return nil, fmt.Errorf("tcUrl is longer than %d bytes", maxTcURL)
	}
	u, err := url.Parse(tcURL)
	if err != nil || !strings.HasPrefix(u.Scheme, "rtmp") || u.Host == "" {
		return nil, errors.New("tcUrl is not an RTMP address")
	}
	return c, c.addQuery(u.RawQuery)
}

// addQuery adds the arguments in query. Encoders put them after app, name or both, so the same
// twice is in order, and two values for one are not: nobody could tell which was checked and which
// was used.
func (c *connectInfo) addQuery(query string) error {
	if len(query) > 3*maxQueryBytes { // all of it escaped
		return errQueryTooLong
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the query is malformed")
	}
	for key, vs := range values {
		for _, v := range vs {
			old, ok := c.params[key]
			if ok && old[0] != v {
				return errors.New("the same argument has different values")
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

var errQueryTooLong = fmt.Errorf("the arguments are longer than %d bytes", maxQueryBytes)

// fourCCs returns the codecs that a connect object lists: those of all kinds in the way of Enhanced
// RTMP v1, and those in the map of that name, of one kind, in the way of v2. Without list and map
// it returns nil.
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
