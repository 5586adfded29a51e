package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"livego/e2e/rtmp"
)

func chunkRows() []row {
	rows := []row{
		{name: "chunk size message without payload", at: handshaken, send: control(setChunkSize, nil), want: closes},
		{name: "chunk size message of 1 byte", at: handshaken, send: control(setChunkSize, []byte{1}), want: closes},
		{name: "chunk size message of 2 bytes", at: handshaken, send: control(setChunkSize, []byte{0, 1}), want: closes},
		{name: "chunk size message of 3 bytes", at: handshaken, send: control(setChunkSize, []byte{0, 1, 0}), want: closes},
		{name: "chunk size message of 9 bytes", at: handshaken, send: control(setChunkSize, join(be32(300), []byte("more!"))),
			do: chunkSize(300), want: works},
		{name: "chunk size 0", at: handshaken, send: control(setChunkSize, be32(0)), want: closes},
		{name: "chunk size with the top bit", at: handshaken, send: control(setChunkSize, be32(0x80000000)), want: closes},
		{name: "chunk size with all bits", at: handshaken, send: control(setChunkSize, be32(0xffffffff)), want: closes},
		{name: "chunk size changes within a message", at: publishing, do: sizeWithinMessage},

		{name: "message length 0xFFFFFF before publish", at: handshaken,
			send: message{CSID: 3, Type: command}.Header(0xffffff),
			want: closes},
		{name: "message length 0xFFFFFF after publish", at: publishing,
			send: message{CSID: 6, Type: video, StreamID: 1}.Header(0xffffff),
			want: endsPublisher("message too long: type 9, 16777215 bytes")},
		{name: "64 partial messages before publish", at: handshaken, send: manyHeads(0xffffff), want: closes},
		{name: "64 partial messages of 64 KiB before publish", at: handshaken, send: piecesOf(64, 64<<10, 60<<10),
			want: closes},
		{name: "64 partial messages after publish", at: publishing, send: manyHeads(0xffffff),
			want: endsPublisher("message too long: type 9, 16777215 bytes")},
		{name: "17 MiB of partial messages after publish", at: publishing,
			do:   func(p *peer) { p.send(piecesOf(5, 8<<20, 4<<20)) },
			want: endsPublisher("unfinished messages exceed")},
		{name: "message of 600,000 bytes before publish", at: handshaken,
			send: message{CSID: 3, Type: command}.Header(600_000),
			want: closes},
		{name: "message of 600,000 bytes after publish", at: publishing,
			do: func(p *peer) { p.deliver(keyFrame(filler(600_000))) }},

		{name: "first chunk of type 3", at: handshaken, send: join(rtmp.BasicHeader(3, 3), make([]byte, 200)),
			want: closes},
		{name: "first chunk of type 2", at: handshaken, send: join(rtmp.BasicHeader(2, 3), make([]byte, 200)),
			want: closes},
		{name: "librtmp's first chunk of type 1", at: handshaken,
			send: []byte{0x42, 0, 0, 0, 0, 0, 6, 4, 0, 3, 0, 0, 0, 0}, want: works},
		{name: "type 0 within a message", at: handshaken, send: join(longCall()[:12+defaultChunk], longCall()),
			want: closes},
		{name: "messages of type 2 and 3", at: publishing, do: repeatedHeaders},

		{name: "truncated csid form 0", at: handshaken, send: []byte{0x00}, do: hangUp, want: closes},
		{name: "truncated csid form 1", at: handshaken, send: []byte{0x01, 0x00}, do: hangUp, want: closes},
		{name: "65 csids", at: handshaken, send: manyCSIDs(65), want: closes},
		{name: "60 csids", at: handshaken, send: manyCSIDs(60), want: works},
		{name: "interleaved messages", at: publishing, do: interleaved},

		{name: "extended timestamp", at: publishing, do: extendedTime},
		{name: "needless extended timestamp", at: publishing, do: needlessExtendedTime},
		{name: "type 3 without extended timestamp", at: publishing, do: extendedTimeOnce},
		{name: "type 3 without extended timestamp, ambiguous payload", at: publishing, do: extendedTimeAmbiguous},
		{name: "timestamp delta 0xFFFFFFFF", at: publishing, do: backwards},
	}
	for _, n := range []uint32{1, 127, 128, 65536, 0xffffff} {
		rows = append(rows, row{name: fmt.Sprintf("chunk size %d", n), at: handshaken, send: control(setChunkSize, be32(n)),
			do: chunkSize(int(n)), want: works})
	}
	for _, n := range []uint32{0x01000000, 0x7fffffff} { // as if 0xFFFFFF, §5.4.1: no message is longer
		rows = append(rows, row{name: fmt.Sprintf("chunk size %#x", n), at: handshaken, send: control(setChunkSize, be32(n)),
			do: chunkSize(0xffffff), want: works})
	}
	for _, csid := range []int{63, 64, 319, 320, 65599} {
		rows = append(rows, row{name: fmt.Sprintf("csid %d", csid), at: publishing, do: func(p *peer) {
			body := keyFrame(filler(300))
			m := p.video(body)
			m.CSID = csid
			p.deliverAs(m.DefaultChunks(), body)
		}})
	}
	return append(rows, row{name: "both forms of csid 64", at: publishing, do: func(p *peer) {
		body := keyFrame(filler(200))
		m := p.video(body)
		m.CSID = 64
		p.deliverAs(join(m.Header(len(body)), body[:defaultChunk], rtmp.LongBasicHeader(3, 64), body[defaultChunk:]), body)
	}})
}

// chunkSize continues with chunks of that size.
func chunkSize(n int) func(*peer) { return func(p *peer) { p.ChunkSize = n } }

// filler returns n bytes without repetition.
func filler(n int) []byte {
	b := make([]byte, 0, n+8)
	for i := 0; len(b) < n; i++ {
		b = binary.BigEndian.AppendUint64(b, uint64(i)*0x9e3779b97f4a7c15)
	}
	return b[:n]
}

// deliver publishes a frame and requires that a viewer gets it.
func (p *peer) deliver(body []byte) tag {
	p.t.Helper()
	return p.deliverAs(p.video(body).Chunks(p.ChunkSize), body)
}

// deliverAs is deliver for a frame with its own wire format.
func (p *peer) deliverAs(wire, body []byte) tag {
	p.t.Helper()
	v := p.on.watch(p.t, p.room)
	p.send(wire)
	return v.await(body)
}

// longCall returns a command of more than one chunk.
func longCall() []byte { return call(0, "FCPublish", 9, nil, string(bytes.Repeat([]byte("x"), 300))) }

func manyHeads(length int) []byte {
	var b []byte
	for i := range 60 {
		b = append(b, join(message{CSID: 10 + i, Type: video}.Header(length), filler(defaultChunk))...)
	}
	return b
}

// piecesOf starts n messages of that length and sends the first bytes of each.
func piecesOf(n, length, first int) []byte {
	b := control(setChunkSize, be32(uint32(first)))
	for i := range n {
		b = append(b, join(message{CSID: 10 + i, Type: video}.Header(length), filler(first))...)
	}
	return b
}

func manyCSIDs(n int) []byte {
	var b []byte
	for i := range n {
		b = append(b, message{CSID: 100 + i, Type: ack, Payload: be32(0)}.DefaultChunks()...)
	}
	return b
}

func sizeWithinMessage(p *peer) {
	p.t.Helper()
	body := keyFrame(filler(400))
	m := p.video(body)
	p.deliverAs(join(m.Header(len(body)), body[:defaultChunk], control(setChunkSize, be32(4096)),
		rtmp.BasicHeader(3, m.CSID), body[defaultChunk:]), body)
	p.ChunkSize = 4096
	works(p)
}

// repeatedHeaders sends headers of type 0, 2 and 3 that each start a message. A delta applies until
// the next one.
func repeatedHeaders(p *peer) {
	p.t.Helper()
	body := func(n int) []byte { return keyFrame(fmt.Appendf(nil, "message %d", n)) }
	v := p.follow()
	p.send(message{CSID: 7, Type: video, StreamID: p.StreamID, Time: 1000, Payload: body(0)}.DefaultChunks(),
		rtmp.BasicHeader(2, 7), []byte{0, 0, 40}, body(1), rtmp.BasicHeader(3, 7), body(2), rtmp.BasicHeader(3, 7), body(3))
	first := v.await(body(0)).time
	for n := 1; n < 4; n++ {
		if got := v.await(body(n)).time - first; got != uint32(40*n) {
			p.t.Errorf("message %d came %d ms after the first, want %d", n, got, 40*n)
		}
	}
}

// interleaved sends chunks of three messages in turn.
func interleaved(p *peer) {
	p.t.Helper()
	var bodies, wires [][]byte
	for n := range 3 {
		body := keyFrame(join([]byte{byte(n)}, filler(500)))
		m := p.video(body)
		m.CSID = 10 + n
		bodies, wires = append(bodies, body), append(wires, m.DefaultChunks())
	}
	v := p.follow()
	for at := 0; at < len(wires[0]); {
		end := min(at+1+defaultChunk, len(wires[0]))
		if at == 0 {
			end = 12 + defaultChunk
		}
		for _, w := range wires {
			p.send(w[at:end])
		}
		at = end
	}
	for _, body := range bodies {
		v.await(body)
	}
}

// extendedTimestamp needs the extended timestamp field.
const extendedTimestamp = 0x01234567

func extendedTime(p *peer) {
	p.t.Helper()
	body := keyFrame(filler(300))
	p.deliverAs(message{CSID: 8, Type: video, StreamID: p.StreamID, Time: extendedTimestamp,
		Payload: body}.DefaultChunks(), body)
	// The same as a delta: types 1 and 2 with the field, and type 3 as specified.
	for format := range 2 {
		body := keyFrame(join([]byte{byte(format)}, filler(300)))
		head := join(rtmp.BasicHeader(1+format, 8), []byte{0xff, 0xff, 0xff})
		if format == 0 {
			head = append(append24(head, uint32(len(body))), video)
		}
		delta := be32(0x01000000)
		p.deliverAs(join(head, delta, body[:defaultChunk], rtmp.BasicHeader(3, 8), delta, body[defaultChunk:2*defaultChunk],
			rtmp.BasicHeader(3, 8), delta, body[2*defaultChunk:]), body)
	}
}

func needlessExtendedTime(p *peer) {
	p.t.Helper()
	body := keyFrame(filler(200))
	p.deliverAs(join(rtmp.BasicHeader(0, 8), []byte{0xff, 0xff, 0xff}, append24(nil, uint32(len(body))), []byte{video},
		[]byte{1, 0, 0, 0}, be32(5000),
		body[:defaultChunk], rtmp.BasicHeader(3, 8), be32(5000), body[defaultChunk:]), body)
}

// extendedTimeOnce omits the field in type 3, as old encoders do.
func extendedTimeOnce(p *peer) {
	p.t.Helper()
	body := keyFrame(filler(300))
	m := message{CSID: 8, Type: video, StreamID: p.StreamID, Time: extendedTimestamp}
	p.deliverAs(join(m.Header(len(body)), body[:defaultChunk], rtmp.BasicHeader(3, 8), body[defaultChunk:2*defaultChunk],
		rtmp.BasicHeader(3, 8), body[2*defaultChunk:]), body)
	works(p)
}

// extendedTimeAmbiguous omits the field, and the payload continues with the same bytes. The encoder
// has omitted the field before, so the server must not read them as the field.
func extendedTimeAmbiguous(p *peer) {
	p.t.Helper()
	extendedTimeOnce(p)
	body := keyFrame(filler(200))
	m := message{CSID: 8, Type: video, StreamID: p.StreamID, Time: extendedTimestamp + 40}
	copy(body[defaultChunk:], be32(m.Time))
	p.deliverAs(join(m.Header(len(body)), body[:defaultChunk], rtmp.BasicHeader(3, 8), body[defaultChunk:]), body)
	works(p)
}

func backwards(p *peer) {
	p.t.Helper()
	first, second := keyFrame([]byte("first")), keyFrame([]byte("second"))
	v := p.follow()
	p.send(message{CSID: 8, Type: video, StreamID: p.StreamID, Time: 2000, Payload: first}.DefaultChunks(),
		rtmp.BasicHeader(1, 8), []byte{0xff, 0xff, 0xff}, append24(nil, uint32(len(second))), []byte{video}, be32(0xffffffff),
		second)
	at := v.await(first).time
	// One millisecond less: the step back is clamped to one forward.
	if got := v.await(second).time; got != at && got != at+1 {
		p.t.Errorf("the second frame is %d ms from the first, want 0 or 1", got-at)
	}
}

// TestOneByteChunks compares the cost of a megabyte in chunks of one byte and in one chunk. It has
// a server of its own, because it measures the CPU time of the process.
func TestOneByteChunks(t *testing.T) {
	s := start(t)
	const megabyte = 1 << 20
	spend := func(size, times int) float64 {
		p := s.dial(t)
		p.room = fmt.Sprintf("chunks-of-%d", size)
		p.advance(publishing)
		p.send(control(setChunkSize, be32(uint32(size))))
		before := s.WithT(t).CPUTicks()
		var body []byte
		for n := range times {
			body = keyFrame(join([]byte{byte(n)}, filler(megabyte)))
			p.send(p.video(body).Chunks(size))
		}
		s.watch(t, p.room).await(body)
		p.NetConn.Close()
		return float64(s.WithT(t).CPUTicks()-before) / float64(times)
	}
	whole, pieces := spend(megabyte*2, 30), spend(1, 3)
	t.Logf("a megabyte takes %.1f ms in one chunk and %.1f ms in chunks of one byte", whole*10, pieces*10)
	whole = max(whole, 0.05) // the clock counts hundredths of a second, over 30 megabytes
	if pieces > 50*whole {
		t.Errorf("a megabyte takes %.0f times as long in chunks of one byte, want at most 50", pieces/whole)
	}
}
