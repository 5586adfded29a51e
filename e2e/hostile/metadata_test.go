package hostile

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

// metadataRows send script data. Invalid script data is ignored and does not end the stream.
func metadataRows() []row {
	meta := func(values ...any) []byte {
		return message{CSID: 5, Type: data, StreamID: 1, Payload: amf(values...)}.DefaultChunks()
	}
	set := func(value any) []byte { return meta("@setDataFrame", "onMetaData", value) }
	rows := []row{
		{name: "array with count 0", at: publishing, send: set(raw(announcing(0))), do: widthIs(320),
			want: works},
		{name: "array with count 2³²−1", at: publishing, send: set(raw(announcing(0xffffffff))), do: widthIs(320),
			want: works},
		{name: "array without end", at: publishing, send: set(raw(announcing(2)[:len(announcing(2))-3])),
			do: widthIs(320), want: works},
		// Script data of more than 64 KiB is not read at all.
		{name: "8 MB of strict arrays", at: publishing, do: func(p *peer) {
			p.send(control(setChunkSize, be32(1<<20)),
				message{CSID: 5, Type: data, StreamID: 1, Payload: slices.Repeat([]byte{10, 0, 0, 0, 1}, 1_600_000)}.Chunks(1<<20))
			p.ChunkSize = 1 << 20
		}, want: works},
		{name: "4000 fields", at: publishing,
			send: set(ecma(append(object{"width", 320},
				manyKeys(4000, func(n int) string { return fmt.Sprint("field", n) })...))), do: widthIs(320), want: works},
		{name: "string instead of an array", at: publishing, send: set("onMetaData"), want: works},
		{name: "nested @setDataFrame", at: publishing,
			send: meta("@setDataFrame", "@setDataFrame", "@setDataFrame", "@setDataFrame", "@setDataFrame", "onMetaData",
				ecma{"width", 1}), want: works},
		{name: "@setDataFrame without a name", at: publishing, send: meta("@setDataFrame"), want: works},
		{name: "@setDataFrame with a number", at: publishing, send: meta("@setDataFrame", 7), want: works},
		{name: "no values", at: publishing, send: meta(), want: works},
		{name: "a megabyte of script data", at: publishing, do: func(p *peer) {
			p.send(message{CSID: 5, Type: data, StreamID: 1,
				Payload: amf("onTextData", string(filler(1<<20)))}.Chunks(p.ChunkSize))
		}, want: works},
		{name: "500 script data messages", at: publishing,
			send: slices.Repeat(meta("onTextData", ecma{"text", "again"}), 500), want: works},
		{name: "500 metadata messages", at: publishing, do: func(p *peer) {
			for n := range 500 {
				p.send(set(ecma{"width", n + 1}))
			}
		}, want: works},
	}
	for name, v := range map[string]any{"-1": -1, "1e9": 1e9, "NaN": math.NaN(), "infinity": math.Inf(1),
		"a string": "640"} {
		rows = append(rows, row{name: "width " + name, at: publishing,
			send: set(ecma{"width", v, "duration", math.Inf(1)}), do: func(p *peer) {
				p.metadata(func(b []byte) {
					if bytes.Contains(b, short("width")) || bytes.Contains(b, short("duration")) {
						p.t.Errorf("viewers get %q", b)
					}
				})
			}, want: works})
	}
	return rows
}

// announcing returns an ECMA array of two fields with count n.
func announcing(n uint32) []byte {
	b := amf(ecma{"width", 320, "height", 180})
	copy(b[1:], be32(n))
	return b
}

// metadata calls f with the onMetaData that a viewer gets. It sends a keyframe, at which the viewer
// starts.
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

// widthIs requires that viewers get this width; that of the SPS is unknown.
func widthIs(n int) func(*peer) {
	return func(p *peer) {
		p.t.Helper()
		p.metadata(func(b []byte) {
			if !bytes.Contains(b, append(short("width"), amf(n)...)) {
				p.t.Errorf("viewers get %q, want a width of %d", b, n)
			}
		})
	}
}
