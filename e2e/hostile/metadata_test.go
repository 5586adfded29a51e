package hostile

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

// metadataRows send script data. What makes no sense is passed over: it is no reason to lose a stream.
func metadataRows() []row {
	meta := func(values ...any) []byte {
		return message{CSID: 5, Type: data, StreamID: 1, Payload: amf(values...)}.DefaultChunks()
	}
	set := func(value any) []byte { return meta("@setDataFrame", "onMetaData", value) }
	rows := []row{
		{name: "M10 array that announces nothing", at: publishing, send: set(raw(announcing(0))), do: widthIs(320),
			want: works},
		{name: "M10 array that announces 2³²−1", at: publishing, send: set(raw(announcing(0xffffffff))), do: widthIs(320),
			want: works},
		{name: "M11 array without end", at: publishing, send: set(raw(announcing(2)[:len(announcing(2))-3])),
			do: widthIs(320), want: works},
		// Script data of more than 64 KiB is not read at all.
		{name: "M14 8 MB of strict arrays", at: publishing, do: func(p *peer) {
			p.send(control(setChunkSize, be32(1<<20)),
				message{CSID: 5, Type: data, StreamID: 1, Payload: slices.Repeat([]byte{10, 0, 0, 0, 1}, 1_600_000)}.Chunks(1<<20))
			p.ChunkSize = 1 << 20
		}, want: works},
		{name: "M23 4000 fields", at: publishing,
			send: set(ecma(append(object{"width", 320},
				manyKeys(4000, func(n int) string { return fmt.Sprint("field", n) })...))), do: widthIs(320), want: works},
		{name: "M23 string for an array", at: publishing, send: set("onMetaData"), want: works},
		{name: "M24 set in set", at: publishing,
			send: meta("@setDataFrame", "@setDataFrame", "@setDataFrame", "@setDataFrame", "@setDataFrame", "onMetaData",
				ecma{"width", 1}), want: works},
		{name: "M24 set without a name", at: publishing, send: meta("@setDataFrame"), want: works},
		{name: "M24 set of a number", at: publishing, send: meta("@setDataFrame", 7), want: works},
		{name: "M24 nothing", at: publishing, send: meta(), want: works},
		{name: "V26 a megabyte of script data", at: publishing, do: func(p *peer) {
			p.send(message{CSID: 5, Type: data, StreamID: 1,
				Payload: amf("onTextData", string(filler(1<<20)))}.Chunks(p.ChunkSize))
		}, want: works},
		{name: "V26 script data 500 times", at: publishing,
			send: slices.Repeat(meta("onTextData", ecma{"text", "again"}), 500), want: works},
		{name: "V26 metadata 500 times", at: publishing, do: func(p *peer) {
			for n := range 500 {
				p.send(set(ecma{"width", n + 1}))
			}
		}, want: works},
	}
	for name, v := range map[string]any{"-1": -1, "1e9": 1e9, "NaN": math.NaN(), "infinity": math.Inf(1),
		"a string": "640"} {
		rows = append(rows, row{name: "M23 width " + name, at: publishing,
			send: set(ecma{"width", v, "duration", math.Inf(1)}), do: func(p *peer) {
				p.metadata(func(b []byte) {
					if bytes.Contains(b, short("width")) || bytes.Contains(b, short("duration")) {
						p.t.Errorf("viewers are told %q", b)
					}
				})
			}, want: works})
	}
	return rows
}

// announcing returns an ECMA array of two fields that announces n.
func announcing(n uint32) []byte {
	b := amf(ecma{"width", 320, "height", 180})
	copy(b[1:], be32(n))
	return b
}

// metadata shows f the onMetaData that a viewer gets. A key frame comes first, for the viewer to
// begin with what was said before it.
func (p *peer) metadata(f func([]byte)) {
	p.t.Helper()
	p.newKeyFrame()
	p.settle()
	v := p.on.watch(p.t, p.room)
	for {
		got, err := v.next()
		if err != nil {
			p.t.Fatalf("no metadata: %v", err)
		}
		if got.typ == data {
			f(got.body)
			return
		}
	}
}

// widthIs wants viewers to be told this width: that of the SPS is unknown.
func widthIs(n int) func(*peer) {
	return func(p *peer) {
		p.t.Helper()
		p.metadata(func(b []byte) {
			if !bytes.Contains(b, append(short("width"), amf(n)...)) {
				p.t.Errorf("viewers are told %q, want a width of %d", b, n)
			}
		})
	}
}
