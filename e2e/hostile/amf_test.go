package hostile

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// amfRows send values in the object of connect, which the server has to read.
func amfRows() []row {
	refused := func(name string, value []byte) row {
		return row{name: name, at: handshaken, send: connect("live", "x", raw(value)), want: closes}
	}
	accepted := func(name string, more ...any) row {
		return row{name: name, at: handshaken, send: connect("live", more...), do: afterConnect, want: works}
	}
	rows := []row{
		accepted("special numbers", "audioCodecs", math.NaN(), "videoCodecs", math.Inf(1), "videoFunction", math.Inf(-1),
			"objectEncoding", math.Copysign(0, -1), "capabilities", 1e308, "capsEx", math.NaN()),
		{name: "special transaction numbers", at: connected, do: oddTransactions, want: works},
		refused("string of 0xFFFF bytes with 1 byte", []byte{2, 0xff, 0xff, 'x'}),
		refused("string of 0xFFFFFFFF bytes with 1 byte", []byte{12, 0xff, 0xff, 0xff, 0xff, 'x'}),
		accepted("control characters in strings", "flashVer", "\x00\xff\xfe\u202e\x1b[2J\r\n", "pageUrl", "\xc0\x80",
			"swfUrl",
			"\x7f"),
		accepted("long string", "flashVer", strings.Repeat("y", 60_000)),
		{name: "object without end", at: handshaken,
			send: call(0, "connect", 1, raw(join([]byte{3}, short("app"), amf("live")))), want: closes},
		{name: "empty key that does not end the object", at: handshaken,
			send: call(0, "connect", 1, raw(join([]byte{3}, short("app"), amf("live"), []byte{0, 0, 8}))), want: closes},
		{name: "value of an empty key", at: handshaken, send: connect("live", "", "value"), want: closes},
		// Of two equal keys, the last one counts.
		accepted("app twice, the last one valid", "app", "live"),
		{name: "app twice, the last one invalid", at: handshaken, send: connect("live", "app", "cinema"),
			want: rejects("NetConnection.Connect.")},
		accepted("31 nested objects", "x", nested(31, func(v any) any { return object{"k", v} })),
		refused("33 nested objects", amf(nested(33, func(v any) any { return object{"k", v} }))),
		refused("33 nested ECMA arrays", amf(nested(33, func(v any) any { return ecma{"k", v} }))),
		refused("33 nested strict arrays", amf(nested(33, func(v any) any { return array{v} }))),
		refused("33 containers of all types", amf(nested(11, func(v any) any { return object{"k", ecma{"k", array{v}}} }))),
		refused("12,000 nested strict arrays", slices.Repeat([]byte{10, 0, 0, 0, 1}, 12_000)),
		{name: "8 MB of strict arrays", at: connected, send: message{CSID: 3, Type: command}.Header(8 << 20),
			want: closes},
		refused("reference to itself", []byte{7, 0, 0}),
		refused("reference forward", []byte{7, 0, 9}),
		refused("reference 65535", []byte{7, 0xff, 0xff}),
		accepted("date", "x", raw{11, 0x42, 0x77, 0, 0, 0, 0, 0, 0, 0xff, 0xc4}),
		accepted("undefined and unsupported", "x", raw{6}, "y", raw{13}),
		refused("movie clip", []byte{4}),
		refused("record set", []byte{14}),
		refused("XML", join([]byte{15}, be32(4), []byte("<a/>"))),
		refused("typed object", join([]byte{16}, short("java.lang.Runtime"), []byte{0, 0, 9})),
		refused("AVM+", []byte{17, 10, 11, 1}),
		{name: "AMF3 command with AMF0 after a zero byte", at: handshaken,
			send: message{Type: commandAMF3,
				Payload: append([]byte{0}, amf("connect", 1, object{"app", "live"})...)}.DefaultChunks(), do: afterConnect,
			want: works},
		refused("10,000 keys", amf(manyKeys(10_000, func(n int) string { return fmt.Sprint("k", n) }))),
		refused("key of 60,000 bytes", amf(object{strings.Repeat("k", 60_000), 1})),
		accepted("keys with hash collisions", "x", manyKeys(2000, collider)),
		{name: "bytes after a command", at: connected, send: call(0, "createStream", 9, nil, raw{0xff, 0xff, 2, 0xff}),
			want: works},
	}
	for n, v := range []byte{0, 2, 255} {
		rows = append(rows, accepted(fmt.Sprint("boolean ", n), "fpad", raw{1, v}))
	}
	for mark, body := range map[byte][]byte{
		0: make([]byte, 8), 1: {1}, 2: append([]byte{0, 3}, "abc"...), 3: amf(object{"k", 1})[1:], 7: {0, 0},
		8:  amf(ecma{"k", 1})[1:],
		10: amf(array{1})[1:], 11: make([]byte, 10), 12: append(be32(3), "abc"...), 15: append(be32(3), "abc"...),
		16: append(short("c"), 0, 0, 9), 17: {10, 11, 1},
	} {
		for cut := range body {
			value := append([]byte{mark}, body[:cut]...)
			r := row{name: fmt.Sprintf("marker %#02x with %d bytes", mark, cut), at: handshaken,
				send: call(0, "connect", 1, raw(join([]byte{3}, short("app"), amf("live"), short("x"), value))), want: closes}
			rows = append(rows, r)
		}
	}
	for mark := 0x12; mark <= 0xff; mark++ {
		rows = append(rows, refused(fmt.Sprintf("marker %#02x", mark), []byte{byte(mark)}))
	}
	return rows
}

// afterConnect reads the reply to a connect that the row has sent, and creates a stream.
func afterConnect(p *peer) {
	p.t.Helper()
	p.await("_result", "NetConnection.Connect.Success")
	p.send(call(0, "createStream", 2, nil))
	p.readStreamCreated()
	p.at = connected
}

// oddTransactions creates streams with special transaction numbers. What is no number counts as 0,
// which requests no reply; a large number is valid.
func oddTransactions(p *peer) {
	p.t.Helper()
	for _, n := range []float64{math.NaN(), math.Inf(1), math.Copysign(0, -1), 1e308} {
		p.send(call(0, "createStream", n, nil))
	}
	if n := p.count(func(m message) bool { return m.Type == command }); n != 1 {
		p.t.Errorf("%d replies, want one to 1e308", n)
	}
}

// nested returns nil in depth containers.
func nested(depth int, into func(any) any) any {
	var v any
	for range depth {
		v = into(v)
	}
	return v
}

func manyKeys(n int, key func(int) string) object {
	var o object
	for i := range n {
		o = append(o, key(i), nil)
	}
	return o
}

// collider returns one of 4096 strings with the same sum, and the same hash if the hash is a
// polynomial in 31, as in Java.
func collider(n int) string {
	var b strings.Builder
	for bit := range 12 {
		if n>>bit&1 == 0 {
			b.WriteString("Aa")
		} else {
			b.WriteString("BB")
		}
	}
	return b.String()
}
