package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

func controlRows() []row {
	rows := []row{
		{name: "media on csid 2", at: publishing, do: func(p *peer) {
			body := keyFrame([]byte("on the chunk stream of control"))
			m := p.video(body)
			m.CSID = 2
			p.deliverAs(m.DefaultChunks(), body)
		}},
		{name: "control on csid 5", at: handshaken,
			send: message{CSID: 5, Type: windowAck, Payload: be32(2500000)}.DefaultChunks(), want: works},
		{name: "control on message stream 1", at: handshaken,
			send: message{CSID: 2, StreamID: 1, Type: windowAck, Payload: be32(2500000)}.DefaultChunks(), want: works},

		{name: "ack of 0 bytes", at: handshaken, send: control(ack, nil), want: closes},
		{name: "ack of 3 bytes", at: handshaken, send: control(ack, []byte{0, 0, 0}), want: closes},
		{name: "ack of more bytes than were sent", at: handshaken, send: control(ack, be32(0xffffffff)), want: works},
		{name: "1000 acks", at: handshaken, send: slices.Repeat(control(ack, be32(1)), 1000), want: works},
		{name: "window 0", at: handshaken, send: control(windowAck, be32(0)), want: works},
		{name: "window 1", at: publishing, send: control(windowAck, be32(1)), do: countAcks, want: works},
		{name: "window 0xFFFFFFFF", at: handshaken, send: control(windowAck, be32(0xffffffff)), want: works},
		{name: "bandwidth of 4 bytes", at: handshaken, send: control(peerBandwidth, be32(1<<20)), want: closes},
		{name: "bandwidth with limit type 255", at: handshaken, send: control(peerBandwidth, append(be32(1<<20), 255)),
			want: works},
		{name: "10,000 pings", at: publishing,
			send: slices.Repeat(control(userControl, []byte{0, 6, 1, 2, 3, 4}), 10_000), do: countPongs, want: works},
		{name: "user control of 1 byte", at: handshaken, send: control(userControl, []byte{0}), want: closes},
		{name: "unknown user control", at: handshaken, send: control(userControl, []byte{0, 99, 1, 2, 3, 4}),
			want: works},

		{name: "sub-message longer than the rest", at: publishing,
			send: aggregated(subMessage(video, 100, []byte("short"), 0)), want: endsPublisher("invalid aggregate message: ")},
		{name: "wrong back pointer", at: publishing, send: aggregated(subMessage(video, 5, []byte("right"), 3)),
			want: endsPublisher("invalid aggregate message: ")},
		{name: "aggregate within an aggregate", at: publishing,
			send: aggregated(subMessage(aggregate, 16, subMessage(video, 1, []byte{0}, 12), 27)),
			want: endsPublisher("invalid aggregate message: ")},
		{name: "500,000 empty sub-messages", at: publishing, do: func(p *peer) {
			empty := slices.Repeat(subMessage(video, 0, nil, 11), 500_000)
			p.send(control(setChunkSize, be32(1<<20)),
				message{CSID: 6, Type: aggregate, StreamID: p.StreamID, Payload: empty}.Chunks(1<<20))
		}, want: endsPublisher("messages in an aggregate")},
		{name: "valid aggregate", at: publishing, do: func(p *peer) {
			body := keyFrame([]byte("within an aggregate"))
			p.deliverAs(aggregated(subMessage(video, len(body), body, 11+len(body))), body)
		}},

		{name: "unknown message types", at: publishing, do: func(p *peer) {
			for typ := range 256 {
				if typ == 0 || typ == 7 || typ >= 10 && typ <= 14 || typ == 21 || typ >= 23 {
					p.send(message{CSID: 5, Type: byte(typ), StreamID: p.StreamID, Payload: filler(40)}.DefaultChunks())
				}
			}
		}, want: works},
		{name: "shared objects", at: publishing,
			send: join(message{Type: shared, Payload: filler(40)}.DefaultChunks(),
				message{Type: sharedAMF3, Payload: filler(40)}.DefaultChunks()), want: works},
		{name: "AMF3 command", at: handshaken,
			send: message{Type: commandAMF3, Payload: append([]byte{3}, amf("connect", 1)...)}.DefaultChunks(), want: closes},
		{name: "AMF3 data", at: publishing,
			send: message{Type: dataAMF3, StreamID: 1, Payload: append([]byte{17}, amf("onMetaData")...)}.DefaultChunks(),
			want: endsPublisher("AMF3 is not supported")},
		{name: "media on message stream 0xFFFFFFFF", at: publishing,
			send: message{CSID: 6, Type: video, StreamID: 0xffffffff, Payload: keyFrame([]byte("nowhere"))}.DefaultChunks(),
			want: works},
		{name: "media on a message stream never created", at: publishing,
			send: message{CSID: 6, Type: video, StreamID: 7, Payload: keyFrame([]byte("nowhere"))}.DefaultChunks(), want: works},
		{name: "abort of 1 byte", at: handshaken, send: control(abort, []byte{1}), want: closes},
		{name: "abort of an unknown chunk stream", at: handshaken, send: control(abort, be32(0xffffffff)),
			want: works},
	}
	for n := range 11 {
		rows = append(rows, row{name: fmt.Sprintf("aggregate of %d bytes", n), at: publishing,
			send: message{CSID: 6, Type: aggregate, StreamID: 1, Payload: make([]byte, n)}.DefaultChunks(), want: closes})
	}
	return rows
}

// subMessage returns a sub-message of an aggregate: a header like that of an FLV tag, with that
// length, the body, and the back pointer.
func subMessage(typ byte, length int, body []byte, back int) []byte {
	head := append24([]byte{typ}, uint32(length))
	return join(head, make([]byte, 7), body, be32(uint32(back)))
}

func aggregated(payload []byte) []byte {
	return message{CSID: 6, Type: aggregate, StreamID: 1, Time: 1000, Payload: payload}.DefaultChunks()
}

// countAcks sends a megabyte to a server with an acknowledgement window of one byte. One
// acknowledgement in 64 KiB is enough.
func countAcks(p *peer) {
	p.t.Helper()
	p.deliver(keyFrame(filler(1 << 20)))
	acks := p.count(func(m message) bool { return m.Type == ack })
	if acks == 0 || acks > 1<<20>>16+2 {
		p.t.Errorf("%d acknowledgements of 1 MiB, want one in 64 KiB at most", acks)
	}
}

// countPongs counts the replies to a flood of pings; the limit is 20 a second.
func countPongs(p *peer) {
	p.t.Helper()
	began := time.Now()
	pongs := p.count(func(m message) bool {
		return m.Type == userControl && len(m.Payload) == 6 && binary.BigEndian.Uint16(m.Payload) == 7
	})
	// On a busy machine the flood itself may take some seconds, each with its twenty.
	if took := time.Since(began); pongs == 0 || pongs > 20*int(2+took.Seconds()) {
		p.t.Errorf("%d replies within %v, want at most 20 a second", pongs, took)
	}
}

// settle waits until the server has processed all that was sent.
func (p *peer) settle() {
	p.t.Helper()
	p.count(func(message) bool { return false })
}

// count returns how many messages the server sends for which like is true, up to its reply to all
// that was sent so far.
func (p *peer) count(like func(message) bool) int {
	p.t.Helper()
	const id = 5000
	p.send(message{Type: command, Payload: amf("_checkbw", id, nil)}.Chunks(p.ChunkSize))
	n := 0
	for {
		m, err := p.ReadMessage(replyTimeout)
		switch {
		case err != nil:
			p.t.Fatal(err)
		case m.IsCommand("_result") && bytes.Contains(m.Payload, amf(id)):
			return n
		case like(m):
			n++
		}
	}
}
