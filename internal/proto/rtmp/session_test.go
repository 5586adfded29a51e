package rtmp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/container/amf0"
)

// A recordedConn is a connection whose peer sends in at once; out records what it receives.
type recordedConn struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *recordedConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *recordedConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *recordedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *recordedConn) SetWriteDeadline(time.Time) error { return nil }
func (c *recordedConn) Close() error                     { return nil }

// run sends in, without the handshake, to a server that accepts every request and reads to the end.
// It returns the request, a line for each message that the server read and each command that it
// sent, and the error at the end.
func run(in []byte, o Options) (req *Request, lines []string, err error) {
	nc := &recordedConn{in: io.MultiReader(bytes.NewReader(make([]byte, 1+2*handshakeSize)), bytes.NewReader(in))}
	s := NewServerConn(nc, o)
	req, err = s.Accept(context.Background())
	if err == nil && req.Publish {
		if err = s.AcceptPublish(); err == nil {
			var m Message
			for m, err = s.ReadMessage(); err == nil; m, err = s.ReadMessage() {
				lines = append(lines, fmt.Sprintf("%d/%d/%s", m.Type, m.Timestamp, m.Payload))
			}
		}
	} else if err == nil {
		if err = s.AcceptPlay(); err == nil {
			err = servePlayer(s)
		}
	}
	words := bytes.NewReader(nc.out.Bytes()[min(nc.out.Len(), 1+2*handshakeSize):])
	return req, append(lines, transcript(words)...), err
}

// transcript returns the commands of a server in short: the name, and the result or the code.
func transcript(r io.Reader) (lines []string) {
	cr := publisherReader(r, func(string) {})
	for {
		m, err := cr.next()
		if err != nil {
			return lines
		}
		if m.Type != typeCommand {
			continue
		}
		values, err := amf0.Decode(m.Payload)
		if err != nil {
			return append(lines, err.Error())
		}
		line := values[0].(string)
		for _, v := range values[2:] {
			switch v := v.(type) {
			case float64:
				line += fmt.Sprint(" ", v)
			case amf0.Object:
				if code := v.Get("code"); code != nil {
					line += fmt.Sprint(" ", code)
				}
			}
		}
		lines = append(lines, line)
	}
}

// chunks returns ms in chunks of 128 bytes.
func chunks(ms ...Message) []byte {
	var out []byte
	for _, m := range ms {
		out = append(out, bytes.Join(appendChunks(nil, 128, Header{m.Type, m.Timestamp, m.StreamID}, m.Payload), nil)...)
	}
	return out
}

func say(streamID uint32, values ...any) Message { return newCommand(streamID, values...) }

func raw(typ uint8, streamID uint32, payload string) Message {
	return Message{Type: typ, StreamID: streamID, Payload: []byte(payload)}
}

type sessionRow struct {
	name  string
	in    []Message
	asked string // "publish app/name?query" or "play ..."
	lines []string
	end   string // end of stream, eof, cut, refused, or the reason of a ProtocolError
}

const (
	connected  = "_result NetConnection.Connect.Success"
	created    = "_result 1"
	publishing = "onStatus NetStream.Publish.Start"
	gone       = "onStatus NetStream.Unpublish.Success"
)

func sessionRows() []sessionRow {
	connect := func(app, tcURL string, more ...amf0.Pair) Message {
		return say(0, "connect", 1, append(amf0.Object{{Key: "app", Value: app}, {Key: "tcUrl", Value: tcURL}}, more...))
	}
	hello := connect("live", "rtmp://host/live")
	create := say(0, "createStream", 2, nil)
	publish := say(1, "publish", 3, nil, "key", "live")
	// The first messages of most rows, and the replies to them.
	started := func(more ...Message) []Message { return append([]Message{hello, create, publish}, more...) }
	said := func(more ...string) []string { return append([]string{connected, created, publishing}, more...) }
	playing := func(more ...string) []string {
		return append([]string{connected, created, "onStatus NetStream.Play.Reset", "onStatus NetStream.Play.Start"}, more...)
	}
	refused := func(m Message, code string) sessionRow {
		return sessionRow{in: []Message{hello, create, m}, lines: []string{connected, created, code}, end: "refused"}
	}
	notConnected := func(m Message, code string) sessionRow {
		return sessionRow{in: []Message{m}, lines: []string{"_error NetConnection.Connect." + code}, end: "refused"}
	}
	named := func(name string, r sessionRow) sessionRow { r.name = name; return r }
	published := func(name string, in []Message, lines []string, end string) sessionRow {
		return sessionRow{name, in, "publish live/key?", lines, end}
	}
	sub := func(typ byte, time uint32, body string) string {
		n := len(body)
		b := []byte{typ, byte(n >> 16), byte(n >> 8), byte(n), byte(time >> 16), byte(time >> 8), byte(time),
			byte(time >> 24), 0, 0, 0}
		return string(binary.BigEndian.AppendUint32(append(b, body...), uint32(n+11)))
	}
	aggregate := func(body string) Message { m := raw(typeAggregate, 1, body); m.Timestamp = 1000; return m }
	deep := bytes.Repeat([]byte("\x03\x00\x01k"), amf0.MaxDepth+1)

	return []sessionRow{
		{name: "nothing", end: "eof"},
		{name: "OBS", in: []Message{
			hello, say(0, "releaseStream", 2, nil, "key"), say(0, "FCPublish", 3, nil, "key"), say(0, "createStream", 4, nil),
			say(0, "_checkbw", 5, nil), say(1, "publish", 6, nil, "key", "live"), raw(TypeVideo, 1, "v"),
			say(0, "FCUnpublish", 7, nil, "key"), say(0, "deleteStream", 8, nil, 1)},
			asked: "publish live/key?",
			lines: []string{"9/0/v", connected, "_result", "_result", created, "_result", "onFCPublish NetStream.Publish.Start",
				publishing,
				"onFCUnpublish NetStream.Unpublish.Success", gone}, end: "stream ended"},
		{name: "GStreamer, no transaction ids", in: []Message{
			hello, say(0, "releaseStream", 0, nil, "key"), say(0, "FCPublish", 0, nil, "key"), create, publish,
			say(0, "deleteStream", 0, nil, 1)},
			asked: "publish live/key?",
			lines: []string{connected, created, "onFCPublish NetStream.Publish.Start", publishing,
				"onFCUnpublish NetStream.Unpublish.Success", gone}, end: "stream ended"},
		{name: "rtmpdump", in: []Message{hello, create, say(0, "FCSubscribe", 3, nil, "movie"),
			say(1, "play", 0, nil, "movie", -1000)},
			asked: "play live/movie?", lines: []string{connected, created, "onFCSubscribe NetStream.Play.Start",
				"onStatus NetStream.Play.Reset", "onStatus NetStream.Play.Start"}, end: "eof"},
		{name: "player commands",
			in: []Message{hello, create, say(0, "getStreamLength", 3, nil, "movie"),
				say(1, "play", 0, nil, "movie", math.Inf(1)),
				say(1, "pause", 0, nil, true, 0), say(1, "pause", 0, nil, false, 0), say(1, "seek", 0, nil, 1e12),
				say(1, "play2", 9, nil), say(1, "receiveAudio", 0, nil, true), say(1, "closeStream", 0, nil)},
			asked: "play live/movie?", end: "stream ended",
			lines: []string{connected, created, "_result 0", "onStatus NetStream.Play.Reset", "onStatus NetStream.Play.Start",
				"onStatus NetStream.Pause.Notify",
				"onStatus NetStream.Unpause.Notify", "onStatus NetStream.Seek.Failed", "_error NetConnection.Call.Failed"}},
		{name: "play after play", in: []Message{hello, create, say(1, "play", 0, nil, "movie"),
			say(1, "play", 0, nil, "other"), raw(TypeVideo, 1, "v")},
			asked: "play live/movie?", lines: playing("onStatus NetStream.Play.StreamNotFound"), end: "eof"},

		{name: "empty command", in: []Message{say(0, "")}, end: "command"},
		{name: "no command", in: []Message{raw(typeCommand, 0, "")}, end: "command"},
		{name: "a number", in: []Message{say(0, 1)}, end: "command"},
		named("not connected: publish", notConnected(publish, "Failed")),
		named("not connected: play", notConnected(say(1, "play", 1, nil, "x"), "Failed")),
		named("not connected: createStream", notConnected(create, "Failed")),
		{name: "connect twice", in: []Message{hello, hello},
			lines: []string{connected, "_error NetConnection.Connect.Rejected"}, end: "eof"},
		published("publish twice", started(publish, raw(TypeAudio, 1, "a")),
			append([]string{"8/0/a"}, said("onStatus NetStream.Publish.BadName")...), "eof"),
		published("play after publish", started(say(1, "play", 0, nil, "x"), hello),
			said("onStatus NetStream.Play.StreamNotFound", "_error NetConnection.Connect.Rejected"), "eof"),
		named("connect: no object", notConnected(say(0, "connect", 1), "Rejected")),
		named("connect: null", notConnected(say(0, "connect", 1, nil), "Rejected")),
		named("connect: array", notConnected(say(0, "connect", 1, []any{"live"}), "Rejected")),
		named("connect: number", notConnected(say(0, "connect", 1, 1), "Rejected")),
		named("tcUrl: escape", notConnected(connect("live", "rtmp://host/%zz"), "Rejected")),
		named("tcUrl: control characters", notConnected(connect("live", "rtmp://host/\r\nx"), "Rejected")),
		named("tcUrl: no scheme", notConnected(connect("live", "host/live"), "Rejected")),
		named("tcUrl: no host", notConnected(connect("live", "rtmp://"), "Rejected")),
		named("tcUrl: long", notConnected(connect("live", "rtmp://host/"+strings.Repeat("x", 1<<15)), "Rejected")),
		{name: "app and tcUrl differ in the path",
			in:    []Message{connect("live/", "rtmp://u:p@host/other/../x"), create, publish},
			asked: "publish live/key?", lines: said(), end: "eof"},
		{name: "no tcUrl", in: []Message{say(0, "connect", 1, amf0.Object{{Key: "app", Value: "live"}}), create, publish},
			asked: "publish live/key?", lines: said(), end: "eof"},
		named("no app", notConnected(connect("", "rtmp://host/live"), "Rejected")),
		named("app of slashes", notConnected(connect("//?x=y", "rtmp://host/live"), "Rejected")),
		named("unknown app", notConnected(connect("unknown", "rtmp://host/unknown"), "InvalidApp")),
		named("the last of two apps counts",
			notConnected(connect("live", "rtmp://host/live", amf0.Pair{Key: "app", Value: "unknown"}), "InvalidApp")),
		named("publish: no name", refused(say(1, "publish", 3, nil), "onStatus NetStream.Publish.BadName")),
		named("publish: null", refused(say(1, "publish", 3, nil, nil), "onStatus NetStream.Publish.BadName")),
		named("publish: number", refused(say(1, "publish", 3, nil, 7), "onStatus NetStream.Publish.BadName")),
		named("publish: empty", refused(say(1, "publish", 3, nil, ""), "onStatus NetStream.Publish.BadName")),
		named("publish: query alone", refused(say(1, "publish", 3, nil, "?token=x"), "onStatus NetStream.Publish.BadName")),
		named("play without a name", refused(say(1, "play", 3, nil), "onStatus NetStream.Play.StreamNotFound")),
		named("publish on no stream", refused(say(0, "publish", 3, nil, "key"), "onStatus NetStream.Publish.BadName")),
		named("publish on a stream never created",
			refused(say(math.MaxUint32, "publish", 3, nil, "key"), "onStatus NetStream.Publish.BadName")),
		{name: "too many streams", in: append([]Message{hello}, slices.Repeat([]Message{create}, 9)...),
			lines: []string{connected, "_result 1", "_result 2", "_result 3", "_result 4", "_result 5", "_result 6", "_result 7",
				"_result 8", "_error NetConnection.Call.Failed"}, end: "eof"},
		{name: "delete, known and not",
			in: []Message{hello, create, say(0, "deleteStream", 0, nil, 5), say(0, "deleteStream", 0, nil, math.NaN()),
				say(0, "deleteStream", 0, nil, 1), create},
			lines: []string{connected, created, created}, end: "eof"},
		{name: "media before publish",
			in:    append([]Message{hello, create, raw(TypeVideo, 1, "early")}, publish, raw(TypeVideo, 1, "v")),
			asked: "publish live/key?", lines: append([]string{"9/0/v"}, said()...), end: "eof"},
		{name: "the same token everywhere",
			in: []Message{connect("live?token=a", "rtmp://host/live?token=a"), create,
				say(1, "publish", 3, nil, "key?token=a&x=y")},
			asked: "publish live/key?token=a&x=y", lines: said(), end: "eof"},
		{name: "tokens: app and tcUrl differ", in: []Message{connect("live?token=a", "rtmp://host/live?token=b")},
			lines: []string{"_error NetConnection.Connect.Rejected"}, end: "refused"},
		{name: "tokens: app and name differ",
			in:    []Message{connect("live?token=a", ""), create, say(1, "publish", 3, nil, "key?token=b")},
			lines: []string{connected, created, "onStatus NetStream.Publish.BadName"}, end: "refused"},
		named("the longest query",
			sessionRow{in: []Message{hello, create, say(1, "publish", 3, nil, "key?a="+strings.Repeat("x", maxQueryBytes-1))},
				asked: "publish live/key?a=" + strings.Repeat("x", maxQueryBytes-1), lines: said(), end: "eof"}),
		named("query of the name too long",
			refused(say(1, "publish", 3, nil, "key?a="+strings.Repeat("x", maxQueryBytes)),
				"onStatus NetStream.Publish.BadName")),
		named("query parameters too long in total", sessionRow{
			in: []Message{
				connect("live?a="+strings.Repeat("x", maxQueryBytes/2), "rtmp://host/live?b="+strings.Repeat("x", maxQueryBytes/4)),
				create,
				say(1, "play", 3, nil, "room?c="+strings.Repeat("x", maxQueryBytes/2)),
			},
			lines: []string{connected, created, "onStatus NetStream.Play.StreamNotFound"}, end: "refused",
		}),
		named("query of 60 KB behind the app",
			sessionRow{in: []Message{connect("live?a="+strings.Repeat("x", 60_000), "")},
				lines: []string{"_error NetConnection.Connect.Rejected"}, end: "refused"}),
		named("tokens: twice in one", refused(say(1, "publish", 3, nil, "key?token=a&token=b"),
			"onStatus NetStream.Publish.BadName")),

		published("trailing bytes", started(raw(TypeAudio, 1, "a"), raw(typeCommand, 1, string(publish.Payload)+"\xff")),
			append([]string{"8/0/a"}, said("onStatus NetStream.Publish.BadName")...), "eof"),
		{name: "invalid transaction ids",
			in: []Message{say(0, "connect", math.NaN(), amf0.Object{{Key: "app", Value: "live"}}),
				say(0, "createStream", math.Inf(1), nil)}, lines: []string{connected}, end: "eof"},
		{name: "deeply nested object",
			in:  []Message{raw(typeCommand, 0, string(amf0.Append(nil, "connect", 1))+string(deep))},
			end: "limit"},
		{name: "AMF0 reference", in: []Message{raw(typeCommand, 0, string(amf0.Append(nil, "connect", 1))+"\x07\x00\x00")},
			end: "amf"},
		{name: "AMF3 command type", in: []Message{raw(typeCommandAMF3, 0, "\x00"+string(hello.Payload))},
			lines: []string{connected}, end: "eof"},
		{name: "AMF3 command", in: []Message{raw(typeCommandAMF3, 0, "\x11x")}, end: "amf"},
		published("AMF3 data", started(raw(typeDataAMF3, 1, "\x00d"), raw(typeDataAMF3, 1, "\x03")),
			append([]string{"18/0/d"}, said()...), "amf"),
		published("acknowledgements", started(raw(typeAck, 0, "\xff\xff\x00\x00"), raw(typeAck, 0, "\x00\x00\x00")), said(),
			"control"),
		published("window sizes", started(raw(typeWindowAck, 0, "\x00\x00\x00\x00"),
			raw(typeWindowAck, 0, "\xff\xff\xff\xff"),
			raw(typeWindowAck, 0, "")), said(), "control"),
		published("peer bandwidth", started(raw(typePeerBandwidth, 0, "\x00\x00\x00\x01\xff"),
			raw(typePeerBandwidth, 0, "\x00\x00\x00\x01")), said(), "control"),
		published("short event", started(raw(typeUserControl, 0, "\x00\x03\x00"), raw(typeUserControl, 0, "\x00")), said(),
			"control"),
		published("short ping", started(raw(typeUserControl, 0, "\x00\x06\x00\x00\x00")), said(), "control"),
		published("unknown message types",
			started(raw(0, 1, ""), raw(7, 1, ""), raw(14, 1, "x"), raw(23, 1, "x"), raw(255, 1, "x"),
				raw(typeShared, 1, "x"), raw(typeSharedAMF3, 1, "x"), raw(TypeAudio, 1, "a")), append([]string{"8/0/a"}, said()...),
			"eof"),
		published("timestamps that go back",
			started(raw(TypeAudio, math.MaxUint32, "a"), raw(TypeVideo, 2, "v"), raw(TypeAudio, 0, "a")), said(),
			"eof"),
		published("aggregate", started(aggregate(sub(TypeAudio, 500, "a")+sub(TypeVideo, 520, "v")+sub(typeCommand, 520, "c")+
			sub(TypeAudio, 499, ""))), append([]string{"8/1000/a", "9/1020/v", "8/999/"}, said()...), "eof"),
		published("aggregate: empty", started(aggregate("")), said(), "aggregate"),
		published("aggregate: 10 bytes", started(aggregate(sub(TypeAudio, 0, "")[:10])), said(), "aggregate"),
		published("aggregate: bytes left over", started(aggregate(sub(TypeAudio, 0, "a")+"x")), said(), "aggregate"),
		published("aggregate: length", started(aggregate("\x08\x00\x00\x02"+sub(TypeAudio, 0, "a")[4:])), said(),
			"aggregate"),
		published("aggregate: back pointer", started(aggregate(sub(TypeAudio, 0, "a")[:12]+"\x00\x00\x00\x0b")), said(),
			"aggregate"),
		published("aggregate: nested", started(aggregate(sub(typeAggregate, 0, sub(TypeAudio, 0, "a")))), said(),
			"aggregate"),
		published("aggregate: many", started(aggregate(strings.Repeat(sub(TypeAudio, 0, ""), maxAggregated+1))), said(),
			"limit"),
		published("closeStream of another", started(say(2, "closeStream", 0, nil), say(1, "closeStream", 0, nil)),
			said("onFCUnpublish NetStream.Unpublish.Success", gone), "stream ended"),
		{name: "too much before publish",
			in:    append([]Message{hello}, slices.Repeat([]Message{raw(TypeData, 0, strings.Repeat("x", 60000))}, 5)...),
			lines: []string{connected}, end: "limit"},
	}
}

func sessionOptions() Options {
	return Options{CheckApp: func(app string) error {
		if app != "live" {
			return errors.New("no such app")
		}
		return nil
	}}
}

func TestSession(t *testing.T) {
	for _, row := range sessionRows() {
		t.Run(row.name, func(t *testing.T) {
			req, lines, err := run(chunks(row.in...), sessionOptions())
			asked := ""
			if req != nil {
				asked = map[bool]string{true: "publish ", false: "play "}[req.Publish] + req.App + "/" + req.Name + "?" + req.Query
			}
			if asked != row.asked {
				t.Errorf("request %q, want %q", asked, row.asked)
			}
			if !slices.Equal(lines, row.lines) {
				t.Errorf("got  %q\nwant %q", lines, row.lines)
			}
			if got := endOf(err); got != row.end {
				t.Errorf("end %s (%v), want %s", got, err, row.end)
			}
		})
	}
}

// TestSessionTruncated: input that ends anywhere is an error.
func TestSessionTruncated(t *testing.T) {
	in := chunks(sessionRows()[1].in...)
	for n := range in {
		if _, _, err := run(in[:n], sessionOptions()); err == nil {
			t.Fatalf("cut at %d: no error", n)
		}
	}
}

// endOf returns the word for the error at the end of a session, as in the table.
func endOf(err error) string {
	var pe *ProtocolError
	var se *StatusError
	switch {
	case err == io.EOF:
		return "eof"
	case err == io.ErrUnexpectedEOF:
		return "cut"
	case err == ErrStreamEnded:
		return "stream ended"
	case errors.As(err, &se):
		return "refused"
	case errors.As(err, &pe):
		return pe.Reason
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "deadline"
	}
	return fmt.Sprint(err)
}

// TestEnhancedConnect: codecs that clients list in the forms of Enhanced RTMP v1 and v2, with
// excessive and invalid lists.
func TestEnhancedConnect(t *testing.T) {
	many := make([]any, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("c%03d", i)
	}
	codes := func(n int) (codes []string) {
		for _, c := range many[:n] {
			codes = append(codes, c.(string))
		}
		return codes
	}
	list := func(codes ...any) amf0.Pair { return amf0.Pair{Key: "fourCcList", Value: codes} }
	for _, tt := range []struct {
		name         string
		object       amf0.Object
		video, audio []string
	}{
		{"none", amf0.Object{{Key: "x"}}, nil, nil},
		{"list", amf0.Object{list("hvc1", "Opus")}, []string{"hvc1", "Opus"}, []string{"hvc1", "Opus"}},
		{"list of nothing", amf0.Object{list()}, []string{}, []string{}},
		{"list of 1000", amf0.Object{list(many...)}, codes(maxFourCCs), codes(maxFourCCs)},
		{"list of one, 1000 times", amf0.Object{list(slices.Repeat([]any{"hvc1"}, 1000)...)}, []string{"hvc1"},
			[]string{"hvc1"}},
		{"list of no strings", amf0.Object{list(1.0, nil)}, []string{}, []string{}},
		{"map of one kind", amf0.Object{{Key: "videoFourCcInfoMap", Value: amf0.Object{{Key: "*", Value: 7.0}}}},
			[]string{"*"}, nil},
		{"maps", amf0.Object{
			{Key: "videoFourCcInfoMap", Value: amf0.Object{{Key: "av01", Value: 1.0}, {Key: "hvc1", Value: 2.0},
				{Key: "vp09", Value: 4.0}, {Key: "avc1", Value: math.NaN()}, {Key: "x", Value: "y"}}},
			{Key: "audioFourCcInfoMap", Value: amf0.ECMAArray{{Key: "Opus", Value: 3.0}}},
		}, []string{"av01", "vp09"}, []string{"Opus"}},
		{"list and map", amf0.Object{list("hvc1"), {Key: "audioFourCcInfoMap", Value: amf0.Object{{Key: "*", Value: 4.0}}}},
			[]string{"hvc1"}, []string{"hvc1", "*"}},
		{"no list", amf0.Object{{Key: "fourCcList", Value: "hvc1"}}, nil, nil},
	} {
		c, err := parseConnect(append(tt.object, amf0.Pair{Key: "app", Value: "live"}, amf0.Pair{Key: "capsEx", Value: 3.0}))
		if err != nil || !reflect.DeepEqual(c.req.VideoCodecs, tt.video) || !reflect.DeepEqual(c.req.AudioCodecs, tt.audio) ||
			c.req.CapsEx != CapsReconnect|CapsMultitrack {
			t.Errorf("%s: %+v, %v", tt.name, c, err)
		}
	}
}

func FuzzSession(f *testing.F) {
	for _, row := range sessionRows() {
		if in := chunks(row.in...); len(in) < 1<<16 {
			f.Add(in)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, _, err := run(in, sessionOptions()); err == nil {
			t.Error("no error at the end of input")
		}
	})
}
