package http2

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A step is what a client does: it sends bytes, waits for a time.Duration, or calls a func(*Conn).
type step any

// frame returns a frame.
func frame(typ h2.FrameType, flags h2.Flags, id uint32, payload ...byte) []byte {
	var b bytes.Buffer
	f := h2.NewFramer(&b, nil)
	f.AllowIllegalWrites = true
	_ = f.WriteRawFrame(typ, flags, id, payload)
	return b.Bytes()
}

// section returns a header section of names and values.
func section(list ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(list); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
	}
	return b.Bytes()
}

// request returns the HEADERS frame of a request with more fields. Its stream is half-closed.
func request(id uint32, method, path string, more ...string) []byte {
	return headers(end, id, method, path, more...)
}

const (
	end        = h2.FlagHeadersEndStream
	endHeaders = h2.FlagHeadersEndHeaders
)

func headers(flags h2.Flags, id uint32, method, path string, more ...string) []byte {
	return frame(h2.FrameHeaders, flags|endHeaders, id, section(append([]string{":method", method, ":scheme", "https",
		":authority", "example.com", ":path", path}, more...)...)...)
}

func hi(id uint32) []byte { return request(id, "GET", "/hi") }

func setting(id h2.SettingID, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, uint16(id)), value)
}

func settings(list ...[]byte) []byte {
	return frame(h2.FrameSettings, 0, 0, bytes.Join(list, nil)...)
}

func window(id, n uint32) []byte {
	return frame(h2.FrameWindowUpdate, 0, id, binary.BigEndian.AppendUint32(nil, n)...)
}

func reset(id uint32) []byte {
	return frame(h2.FrameRSTStream, 0, id, 0, 0, 0, byte(h2.ErrCodeCancel))
}

func concat(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// rapidReset returns n requests that are reset at once.
func rapidReset(n uint32) (b []byte) {
	for i := range n {
		b = append(append(b, request(2*i+1, "GET", "/block")...), reset(2*i+1)...)
	}
	return b
}

// streams returns n requests that wait.
func streams(n uint32) (b []byte) {
	for i := range n {
		b = append(b, request(2*i+1, "GET", "/block")...)
	}
	return b
}

// smallWindows is a request, and n windows of a byte for it, each after the byte before.
func smallWindows(n int) []step {
	list := steps(settings(setting(h2.SettingInitialWindowSize, 0)), request(1, "GET", "/large"))
	for range n {
		list = append(list, window(1, 1))
	}
	return list
}

var preface = []byte(h2.ClientPreface)

// Times of the server under test.
const (
	testHeaderTime = 5 * time.Second
	testIdleTime   = time.Minute
	testStall      = 10 * time.Second
)

// A testCase is what a client sends after its preface, and what it receives: see describe. The
// clauses are those of RFC 9113.
type testCase struct {
	name string
	in   []step
	want string
}

// steps returns the steps of a client that follows the protocol up to then.
func steps(list ...step) []step {
	return append([]step{concat(preface, settings())}, list...)
}

const hiThere = "HEADERS 1 200; DATA 1 2 end"

var testCases = []testCase{
	{"3.4 request", steps(hi(1)), hiThere},
	{"3.4 invalid preface", []step{[]byte(strings.Repeat("x", 24))}, "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"3.4 no SETTINGS first", []step{concat(preface, hi(1))}, "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"3.4 acknowledgement first", []step{concat(preface, frame(h2.FrameSettings, h2.FlagSettingsAck, 0))},
		"GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"3.4 no preface", []step{testHeaderTime}, "GOAWAY 0 PROTOCOL_ERROR; EOF"},

	{"4.1 unknown type and flags", steps(frame(0xbe, 0xff, 0, 1, 2), frame(0xbe, 0, 1), hi(1)), hiThere},
	{"4.1 reserved bit", steps(concat(frame(h2.FrameHeaders, end|endHeaders, 1<<31|1, section(":method", "GET", ":scheme",
		"https", ":authority", "a", ":path", "/hi")...))), hiThere},
	{"4.2 frame too large", steps(frame(h2.FrameData, 0, 1, make([]byte, frameSize+1)...)),
		"GOAWAY 0 FRAME_SIZE_ERROR; EOF"},
	{"4.3 invalid header section", steps(frame(h2.FrameHeaders, end|endHeaders, 1, 0xff, 0xff, 0xff, 0xff, 0xff)),
		"GOAWAY 0 COMPRESSION_ERROR; EOF"},
	{"4.3 incomplete header section", steps(frame(h2.FrameHeaders, end|endHeaders, 1, 0x40)),
		"GOAWAY 0 COMPRESSION_ERROR; EOF"},

	{"5.1 idle: DATA", steps(frame(h2.FrameData, 0, 1, 'x')), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"5.1 idle: RST_STREAM", steps(reset(1)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"5.1 idle: WINDOW_UPDATE", steps(window(1, 1)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"5.1 idle: CONTINUATION", steps(frame(h2.FrameContinuation, endHeaders, 1)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"5.1 half-closed: DATA", steps(request(1, "GET", "/block"), frame(h2.FrameData, 0, 1, 'x')), "RST 1 STREAM_CLOSED"},
	{"5.1 half-closed: HEADERS", steps(request(1, "GET", "/block"), hi(1)), "RST 1 STREAM_CLOSED"},
	{"5.1 closed: DATA", steps(hi(1), frame(h2.FrameData, 0, 1, 'x')), hiThere + "; RST 1 STREAM_CLOSED"},
	{"5.1 closed: HEADERS", steps(hi(1), hi(1)), hiThere + "; GOAWAY 1 STREAM_CLOSED; EOF"},
	{"5.1 closed: WINDOW_UPDATE and RST_STREAM", steps(hi(1), window(1, 1), reset(1), hi(3)),
		hiThere + "; HEADERS 3 200; DATA 3 2 end"},
	{"5.1.1 even identifier", steps(hi(2)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"5.1.1 smaller identifier", steps(hi(5), hi(3)), "HEADERS 5 200; DATA 5 2 end; GOAWAY 5 STREAM_CLOSED; EOF"},
	{"5.1.2 too many streams", steps(streams(testStreams+1), reset(1), hi(99)),
		"RST 9 REFUSED_STREAM; HEADERS 99 200; DATA 99 2 end"},
	{"5.3.2 PRIORITY", steps(frame(h2.FramePriority, 0, 1, 0, 0, 0, 1, 0), frame(h2.FramePriority, 0, 5, 0, 0, 0, 3, 9),
		hi(1)), hiThere},
	{"5.4.1 a malformed request takes its identifier", steps(request(3, "GET", ""), hi(1)),
		"RST 3 PROTOCOL_ERROR; GOAWAY 3 STREAM_CLOSED; EOF"},
	{"5.5 extension in a header section", steps(frame(h2.FrameHeaders, end, 1, section(":method", "GET")...),
		frame(0xbe, 0, 1)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},

	{"6.1 DATA without stream", steps(frame(h2.FrameData, 0, 0, 'x')), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.1 padding", steps(headers(0, 1, "POST", "/body"), frame(h2.FrameData, h2.FlagDataPadded|h2.FlagDataEndStream, 1,
		2, 'a', 'b', 0, 0)), "HEADERS 1 200; DATA 1 2 end"},
	{"6.1 too much padding", steps(headers(0, 1, "POST", "/body"), frame(h2.FrameData, h2.FlagDataPadded, 1, 3, 'a', 0)),
		"GOAWAY 1 PROTOCOL_ERROR; EOF"},
	{"6.2 HEADERS without stream", steps(hi(0)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.2 padding and priority", steps(frame(h2.FrameHeaders, end|endHeaders|h2.FlagHeadersPadded|
		h2.FlagHeadersPriority, 1, concat([]byte{1, 0, 0, 0, 0, 9}, section(":method", "GET", ":scheme", "https",
		":path", "/hi"), []byte{0})...)), hiThere},
	{"6.2 too much padding", steps(frame(h2.FrameHeaders, end|endHeaders|h2.FlagHeadersPadded, 1, 9, 0x82)),
		"RST 1 PROTOCOL_ERROR"},
	{"6.3 PRIORITY without stream", steps(frame(h2.FramePriority, 0, 0, 0, 0, 0, 1, 0)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.3 PRIORITY of 4 bytes", steps(frame(h2.FramePriority, 0, 1, 0, 0, 0, 1)), "GOAWAY 0 FRAME_SIZE_ERROR; EOF"},
	{"6.4 RST_STREAM", steps(request(1, "GET", "/block"), reset(1), hi(3)), "HEADERS 3 200; DATA 3 2 end"},
	{"6.4 RST_STREAM without stream", steps(reset(0)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.4 RST_STREAM of 3 bytes", steps(hi(1), frame(h2.FrameRSTStream, 0, 1, 0, 0, 0)),
		hiThere + "; GOAWAY 1 FRAME_SIZE_ERROR; EOF"},
	{"6.5 SETTINGS", steps(settings(setting(h2.SettingHeaderTableSize, 0), setting(h2.SettingMaxFrameSize, 1<<24-1),
		setting(h2.SettingEnablePush, 0), setting(0xbeef, 7)), hi(1)), "SETTINGS ack; " + hiThere},
	{"6.5 acknowledgement", steps(frame(h2.FrameSettings, h2.FlagSettingsAck, 0), hi(1)), hiThere},
	{"6.5 acknowledgement with a setting", steps(frame(h2.FrameSettings, h2.FlagSettingsAck, 0, setting(1, 1)...)),
		"GOAWAY 0 FRAME_SIZE_ERROR; EOF"},
	{"6.5 SETTINGS for a stream", steps(frame(h2.FrameSettings, 0, 1)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.5 SETTINGS of 5 bytes", steps(frame(h2.FrameSettings, 0, 0, 0, 3, 0, 0, 0)), "GOAWAY 0 FRAME_SIZE_ERROR; EOF"},
	{"6.5.2 invalid ENABLE_PUSH", steps(settings(setting(h2.SettingEnablePush, 2))), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.5.2 invalid INITIAL_WINDOW_SIZE", steps(settings(setting(h2.SettingInitialWindowSize, 1<<31))),
		"GOAWAY 0 FLOW_CONTROL_ERROR; EOF"},
	{"6.5.2 small MAX_FRAME_SIZE", steps(settings(setting(h2.SettingMaxFrameSize, 1<<14-1))),
		"GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.5.2 large MAX_FRAME_SIZE", steps(settings(setting(h2.SettingMaxFrameSize, 1<<24))),
		"GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.5.3 the last value holds", steps(settings(setting(h2.SettingInitialWindowSize, 9),
		setting(h2.SettingInitialWindowSize, 1)), hi(1)), "SETTINGS ack; HEADERS 1 200; DATA 1 1"},
	{"6.6 PUSH_PROMISE", steps(frame(h2.FramePushPromise, endHeaders, 1, concat([]byte{0, 0, 0, 2}, section())...)),
		"GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.7 PING", steps(frame(h2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)), "PING ack 0102030405060708"},
	{"6.7 PING acknowledgement", steps(frame(h2.FramePing, h2.FlagPingAck, 0, make([]byte, 8)...), hi(1)), hiThere},
	{"6.7 PING for a stream", steps(frame(h2.FramePing, 0, 1, make([]byte, 8)...)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.7 PING of 7 bytes", steps(frame(h2.FramePing, 0, 0, make([]byte, 7)...)), "GOAWAY 0 FRAME_SIZE_ERROR; EOF"},
	{"6.8 GOAWAY", steps(frame(h2.FrameGoAway, 0, 0, make([]byte, 8)...)), "GOAWAY 0 NO_ERROR; EOF"},
	{"6.8 GOAWAY during a request", steps(request(1, "GET", "/large"), frame(h2.FrameGoAway, 0, 0, make([]byte, 8)...),
		concat(window(0, 1<<20), window(1, 1<<20))),
		"HEADERS 1 200; DATA 1 65535; GOAWAY 1 NO_ERROR; DATA 1 134465 end; EOF"},
	{"6.8 GOAWAY for a stream", steps(frame(h2.FrameGoAway, 0, 1, make([]byte, 8)...)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.8 shutdown", steps((*Conn).Shutdown), "GOAWAY 0 NO_ERROR; EOF"},
	{"6.8 shutdown during a request", steps(request(1, "GET", "/large"), (*Conn).Shutdown, hi(3),
		concat(window(0, 1<<20), window(1, 1<<20))),
		"HEADERS 1 200; DATA 1 65535; GOAWAY 1 NO_ERROR; DATA 1 134465 end; EOF"},
	{"6.8 frames of a request after shutdown", steps(request(1, "GET", "/block"), (*Conn).Shutdown,
		headers(0, 3, "POST", "/body"), window(3, 1), frame(h2.FrameData, 0, 3, 'x'), reset(3), window(3, 1), window(5, 1)),
		"GOAWAY 1 NO_ERROR"},
	{"6.8 idle", steps(hi(1), testIdleTime-time.Second, frame(h2.FramePing, 0, 0, make([]byte, 8)...), time.Second),
		hiThere + "; PING ack 0000000000000000; GOAWAY 1 NO_ERROR; EOF"},
	{"6.8 not idle during a request", steps(request(1, "GET", "/block"), 5*testIdleTime, reset(1), testIdleTime/2, hi(3)),
		"HEADERS 3 200; DATA 3 2 end"},
	{"6.9 WINDOW_UPDATE by 0", steps(window(0, 0)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.9 WINDOW_UPDATE of a stream by 0", steps(request(1, "GET", "/block"), window(1, 0)), "RST 1 PROTOCOL_ERROR"},
	{"6.9 WINDOW_UPDATE of 3 bytes", steps(frame(h2.FrameWindowUpdate, 0, 0, 0, 0, 1)), "GOAWAY 0 FRAME_SIZE_ERROR; EOF"},
	{"6.9.1 both windows", steps(request(1, "GET", "/large"), window(0, 10), window(1, 20)),
		"HEADERS 1 200; DATA 1 65545"},
	{"6.9.1 window of the connection too large", steps(window(0, maxWindow)), "GOAWAY 0 FLOW_CONTROL_ERROR; EOF"},
	{"6.9.1 window of a stream too large", steps(request(1, "GET", "/block"), window(1, maxWindow)),
		"RST 1 FLOW_CONTROL_ERROR"},
	{"6.9.1 a body beyond the window", steps(headers(0, 1, "POST", "/block"),
		bytes.Repeat(frame(h2.FrameData, 0, 1, make([]byte, 1<<14)...), 4)),
		"WINDOW 0 32768; WINDOW 0 32768; RST 1 FLOW_CONTROL_ERROR"},
	{"6.9.2 initial window", steps(settings(setting(h2.SettingInitialWindowSize, 1)), hi(1), window(1, 9)),
		"SETTINGS ack; HEADERS 1 200; DATA 1 2 end"},
	{"6.9.2 changed window", steps(settings(setting(h2.SettingInitialWindowSize, 0)), hi(1),
		settings(setting(h2.SettingInitialWindowSize, 1))), "SETTINGS ack; HEADERS 1 200; SETTINGS ack; DATA 1 1"},
	{"6.9.2 negative window", steps(settings(setting(h2.SettingInitialWindowSize, 9)), request(1, "GET", "/large"),
		settings(setting(h2.SettingInitialWindowSize, 4)), window(1, 5), window(1, 1)),
		"SETTINGS ack; HEADERS 1 200; DATA 1 9; SETTINGS ack; DATA 1 1"},
	{"6.9.2 changed window too large", steps(request(1, "GET", "/block"), window(1, maxWindow-defaultWindow),
		settings(setting(h2.SettingInitialWindowSize, defaultWindow+1))), "GOAWAY 1 FLOW_CONTROL_ERROR; EOF"},
	{"6.10 CONTINUATION", steps(concat(frame(h2.FrameHeaders, end, 1, section(":method", "GET")...),
		frame(h2.FrameContinuation, 0, 1), frame(h2.FrameContinuation, endHeaders, 1, section(":scheme", "https", ":path",
			"/hi")...))), hiThere},
	{"6.10 CONTINUATION of another stream", steps(frame(h2.FrameHeaders, end, 1, section(":method", "GET")...),
		frame(h2.FrameContinuation, endHeaders, 3)), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.10 DATA in a header section", steps(frame(h2.FrameHeaders, 0, 1, section(":method", "GET")...),
		frame(h2.FrameData, 0, 1, 'x')), "GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"6.10 incomplete header section", steps(frame(h2.FrameHeaders, end, 1), testHeaderTime),
		"GOAWAY 0 PROTOCOL_ERROR; EOF"},

	{"8.1 trailers", steps(headers(0, 1, "POST", "/body"), frame(h2.FrameData, 0, 1, 'x'),
		frame(h2.FrameHeaders, end|endHeaders, 1, section("a", "b")...)), "HEADERS 1 200; DATA 1 1 end"},
	{"8.1 trailers without END_STREAM", steps(headers(0, 1, "POST", "/body"),
		frame(h2.FrameHeaders, endHeaders, 1, section("a", "b")...)), "RST 1 PROTOCOL_ERROR"},
	{"8.1 response before the body", steps(headers(0, 1, "POST", "/hi"), frame(h2.FrameData, 0, 1, 'x')),
		hiThere + "; RST 1 NO_ERROR; RST 1 STREAM_CLOSED"},
	{"8.1.1 body shorter than Content-Length", steps(headers(0, 1, "POST", "/body", "content-length", "2"),
		frame(h2.FrameData, h2.FlagDataEndStream, 1, 'x')), "RST 1 PROTOCOL_ERROR"},
	{"8.1.1 body longer than Content-Length", steps(headers(0, 1, "POST", "/body", "content-length", "2"),
		frame(h2.FrameData, 0, 1, 'x', 'y', 'z')), "RST 1 PROTOCOL_ERROR"},
	{"8.1.1 Content-Length without body", steps(request(1, "GET", "/hi", "content-length", "2")), "RST 1 PROTOCOL_ERROR"},
	{"8.1.1 invalid Content-Length", steps(request(1, "GET", "/hi", "content-length", "-0")), "RST 1 PROTOCOL_ERROR"},
	{"8.1.1 Content-Length of 0", steps(request(1, "GET", "/hi", "content-length", "0")), hiThere},
	{"8.1 HEAD", steps(request(1, "HEAD", "/hi")), "HEADERS 1 200 end"},
	{"8.1 no body", steps(request(1, "GET", "/304")), "HEADERS 1 304 end"},
	{"8.1 no Content-Length", steps(request(1, "GET", "/flushed")), "HEADERS 1 200; DATA 1 2 end"},
	{"8.1 incomplete response", steps(request(1, "GET", "/short")), "HEADERS 1 200; DATA 1 2; RST 1 INTERNAL_ERROR"},
	{"8.1 panic", steps(request(1, "GET", "/panic"), hi(3)), "RST 1 INTERNAL_ERROR; HEADERS 3 200; DATA 3 2 end"},
	{"8.2 upper case", steps(request(1, "GET", "/hi", "X", "y")), "RST 1 PROTOCOL_ERROR"},
	{"8.2.1 space in a name", steps(request(1, "GET", "/hi", "a b", "y")), "RST 1 PROTOCOL_ERROR"},
	{"8.2.1 line end in a value", steps(request(1, "GET", "/hi", "a", "b\r\nc: d")), "RST 1 PROTOCOL_ERROR"},
	{"8.2.2 Connection", steps(request(1, "GET", "/hi", "connection", "keep-alive")), "RST 1 PROTOCOL_ERROR"},
	{"8.2.2 Transfer-Encoding", steps(request(1, "GET", "/hi", "transfer-encoding", "chunked")), "RST 1 PROTOCOL_ERROR"},
	{"8.2.2 TE", steps(request(1, "GET", "/hi", "te", "gzip")), "RST 1 PROTOCOL_ERROR"},
	{"8.2.2 TE: trailers", steps(request(1, "GET", "/hi", "te", "trailers")), hiThere},
	{"8.3 unknown pseudo-header", steps(request(1, "GET", "/hi", ":x", "y")), "RST 1 PROTOCOL_ERROR"},
	{"8.3 pseudo-header of a response", steps(request(1, "GET", "/hi", ":status", "200")), "RST 1 PROTOCOL_ERROR"},
	{"8.3 pseudo-header after others", steps(frame(h2.FrameHeaders, end|endHeaders, 1, section("a", "b", ":method", "GET",
		":scheme", "https", ":path", "/hi")...)), "RST 1 PROTOCOL_ERROR"},
	{"8.3 pseudo-header in trailers", steps(headers(0, 1, "POST", "/body"),
		frame(h2.FrameHeaders, end|endHeaders, 1, section(":path", "/")...)), "RST 1 PROTOCOL_ERROR"},
	{"8.3 duplicate", steps(request(1, "GET", "/hi", ":path", "/hi")), "RST 1 PROTOCOL_ERROR"},
	{"8.3.1 no method", steps(frame(h2.FrameHeaders, end|endHeaders, 1, section(":scheme", "https", ":path", "/hi")...)),
		"RST 1 PROTOCOL_ERROR"},
	{"8.3.1 no scheme", steps(frame(h2.FrameHeaders, end|endHeaders, 1, section(":method", "GET", ":path", "/hi")...)),
		"RST 1 PROTOCOL_ERROR"},
	{"8.3.1 no path", steps(frame(h2.FrameHeaders, end|endHeaders, 1, section(":method", "GET", ":scheme", "https")...)),
		"RST 1 PROTOCOL_ERROR"},
	{"8.3.1 empty path", steps(request(1, "GET", "")), "RST 1 PROTOCOL_ERROR"},
	{"8.3.1 path without slash", steps(request(1, "GET", "hi")), "RST 1 PROTOCOL_ERROR"},
	{"8.3.1 another Host", steps(request(1, "GET", "/hi", "host", "example.org")), "RST 1 PROTOCOL_ERROR"},
	{"8.3.1 OPTIONS *", steps(request(1, "OPTIONS", "*")), "HEADERS 1 404; DATA 1 14 end"},
	{"8.5 CONNECT", steps(frame(h2.FrameHeaders, end|endHeaders, 1, section(":method", "CONNECT", ":authority",
		"a:1")...)), "HEADERS 1 404; DATA 1 14 end"},
	{"8.5 CONNECT with a path", steps(request(1, "CONNECT", "/hi")), "RST 1 PROTOCOL_ERROR"},

	{"10.5 many PING frames", steps(bytes.Repeat(frame(h2.FramePing, 0, 0, make([]byte, 8)...), overheadBurst+1)), calm},
	{"10.5 many SETTINGS frames", steps(bytes.Repeat(settings(), overheadBurst+1)), calm},
	{"10.5 many acknowledgements", steps(bytes.Repeat(frame(h2.FrameSettings, 1, 0), overheadBurst+1)), calm},
	{"10.5 many PRIORITY frames", steps(bytes.Repeat(frame(h2.FramePriority, 0, 1, 0, 0, 0, 9, 0), overheadBurst+1)),
		calm},
	{"10.5 many unknown frames", steps(bytes.Repeat(frame(0xbe, 0, 0), overheadBurst+1)), calm},
	{"10.5 many empty DATA frames", steps(headers(0, 1, "POST", "/block"),
		bytes.Repeat(frame(h2.FrameData, 0, 1), overheadBurst+1)), calm},
	{"10.5 many malformed requests", steps(malformed(overheadBurst + 1)), calm},
	{"10.5 many reset requests", steps(rapidReset(overheadBurst + 1)), calm},
	{"10.5 resets over time", steps(hi(1), bytes.Repeat(reset(1), overheadBurst),
		time.Duration(overheadBurst/overheadRate)*time.Second, bytes.Repeat(reset(1), overheadBurst), hi(3)),
		hiThere + "; HEADERS 3 200; DATA 3 2 end"},
	{"10.5 small windows", smallWindows(overheadBurst + 1), calm},
	{"10.5 empty CONTINUATION frames", steps(concat(frame(h2.FrameHeaders, end, 1, section(":method", "GET")...),
		bytes.Repeat(frame(h2.FrameContinuation, 0, 1), maxBlock/frameHeaderSize+1))), "GOAWAY 0 ENHANCE_YOUR_CALM; EOF"},
	{"10.5.1 header too large", steps(request(1, "GET", "/hi", "a", strings.Repeat("~", testHeader+headerSlack)), hi(3)),
		"HEADERS 1 431; DATA 1 63 end; HEADERS 3 200; DATA 3 2 end"},
	{"10.5.1 header section too large", steps(concat(frame(h2.FrameHeaders, end, 1, section("a",
		strings.Repeat("~", testHeader+headerSlack))...), frame(h2.FrameContinuation, 0, 1, section("a",
		strings.Repeat("~", testHeader+headerSlack))...))),
		"GOAWAY 0 PROTOCOL_ERROR; EOF"},
	{"10.5.1 compressed header too large", steps(frame(h2.FrameHeaders, end|endHeaders, 1, bomb()...), hi(3)),
		"HEADERS 1 431; DATA 1 63 end; HEADERS 3 200; DATA 3 2 end"},

	{"a client that opens no window", steps(settings(setting(h2.SettingInitialWindowSize, 0)), hi(1), testStall, hi(3)),
		"SETTINGS ack; HEADERS 1 200; RST 1 CANCEL; HEADERS 3 200"},
	{"a client that opens other windows", steps(settings(setting(h2.SettingInitialWindowSize, 0)), hi(1), testStall/2,
		window(0, 1), testStall/2), "SETTINGS ack; HEADERS 1 200; RST 1 CANCEL"},
	{"a response that takes too long", steps(settings(setting(h2.SettingInitialWindowSize, 0)),
		request(1, "GET", "/deadline"), window(1, 1), testStall/2, window(1, 1), testStall/2, window(1, 1)),
		"SETTINGS ack; HEADERS 1 200; DATA 1 2; RST 1 CANCEL"},
	{"a body that does not come", steps(headers(0, 1, "POST", "/body"), testStall),
		"HEADERS 1 500; DATA 1 14 end; RST 1 NO_ERROR"},
	{"a body that is too long", steps(headers(0, 1, "POST", "/late"),
		bytes.Repeat(frame(h2.FrameData, 0, 1, make([]byte, 1<<13)...), 3), time.Second),
		"HEADERS 1 500; DATA 1 14 end; RST 1 NO_ERROR"},
}

// calm ends a connection that costs too much. The frames before differ.
const calm = "ENHANCE_YOUR_CALM; EOF"

// malformed returns n malformed requests.
func malformed(n uint32) (b []byte) {
	for i := range n {
		b = append(b, request(2*i+1, "GET", "")...)
	}
	return b
}

// bomb returns a header section that is many times as long when it is decompressed.
func bomb() []byte {
	b := section(":method", "GET", ":scheme", "https", ":path", "/hi")
	b = append(b, section("a", strings.Repeat("~", 2000))...)
	const newest = 0x80 | 62 // the newest entry of the dynamic table (RFC 7541 section 2.3.3)
	return append(b, bytes.Repeat([]byte{newest}, 1000)...)
}
