package hostile

import (
	"bytes"
	"testing"
)

// enhancedRows send what Enhanced RTMP v2 allows and no available encoder sends.
func enhancedRows() []row {
	return []row{
		{name: "modifiers", at: publishing, do: func(p *peer) {
			for name, prefix := range map[string][]byte{
				"nanoseconds": {0x97, 2, 0x0f, 0x42, 0x3f, 0x01}, "unknown": {0x97, 0, 9, 0x51},
				"two":  {0x97, 0, 9, 0x57, 2, 0, 0, 1, 0x01},
				"long": join([]byte{0x97, 255, 0x0f, 0xff}, make([]byte, 4096), []byte{0x11}),
			} {
				content := []byte("after modifiers: " + name)
				body := join(prefix, []byte("avc1"), make([]byte, 3), nal([]byte{0x65}, content))
				p.deliverAs(p.video(body).Chunks(p.ChunkSize), keyFrame(content))
			}
		}, want: works},
		{name: "multiple video tracks", at: publishing, do: multipleVideoTracks, want: works},
		{name: "multiple audio tracks", at: publishing, do: multipleAudioTracks, want: works},
		{name: "server capabilities", at: handshaken, send: connect("live", "capsEx", 1), do: func(p *peer) {
			m := p.await("_result", "NetConnection.Connect.Success")
			for _, want := range [][]byte{
				join(short("capsEx"), amf(15)), join(short("fourCcList"), amf(array{"*"})),
				join(short("videoFourCcInfoMap"), amf(object{"*", 4})), join(short("audioFourCcInfoMap"), amf(object{"*", 4})),
			} {
				if !bytes.Contains(m.Payload, want) {
					p.t.Errorf("%q is not in %q", want, m.Payload)
				}
			}
		}},
		{name: "codecs that a player does not support", at: publishing, do: unsupportedCodec, want: works},
	}
}

// track returns a track of a multitrack message, after its FourCC if each track has its own.
func track(fourCC string, id byte, content []byte) []byte {
	return join([]byte(fourCC), []byte{id}, be32(uint32(len(content)))[1:], content)
}

// multipleVideoTracks sends two pictures in each of the three forms, and checks which viewers get
// which.
func multipleVideoTracks(p *peer) {
	p.t.Helper()
	config := avcHeader[5:]
	p.frame(join([]byte{0x96, 0x10}, []byte("avc1"), track("", 0, config), track("", 9, config)))
	plain := p.follow()
	all := p.on.watchAt(p.t, p.on.FLV(p.room)+"?tracks=all")
	able := p.player("capsEx", 2)
	cts := []byte{0, 0, 0}
	for n, message := range [][]byte{
		join([]byte{0x96, 0x11}, []byte("avc1"), track("", 0, join(cts, nal([]byte{0x65, 0}))),
			track("", 9, join(cts, nal([]byte{0x65, 9, 0})))),
		join([]byte{0x96, 0x23}, track("avc1", 9, nal([]byte{0x65, 9, 1})), track("none", 3, []byte("x")),
			track("avc1", 0, nal([]byte{0x65, 1}))),
	} {
		p.frame(message)
		first := keyFrame([]byte{byte(n)})
		second := join([]byte{0x96, 0x03}, []byte("avc1"), []byte{9}, nal([]byte{0x65, 9, byte(n)}))
		plain.await(first)
		all.await(second)
		able.awaitVideo(second)
	}
	// A player of one track must not have received the other so far.
	for _, body := range plain.bodies {
		if body[0] == 0x96 {
			p.t.Errorf("a player of one track received %q", body)
		}
	}
	p.frame(join([]byte{0x96, 0x01}, []byte("avc1"), []byte{9}, cts, nal([]byte{0x65, 9, 2})))
	all.await(join([]byte{0x96, 0x03}, []byte("avc1"), []byte{9}, nal([]byte{0x65, 9, 2})))
}

// multipleAudioTracks is multipleVideoTracks for audio, in the form that ffmpeg sends.
func multipleAudioTracks(p *peer) {
	p.t.Helper()
	say := func(body []byte) {
		p.send(message{CSID: 4, Type: audio, StreamID: p.StreamID, Time: p.time, Payload: body}.Chunks(p.ChunkSize))
	}
	say(aacHeader)
	say(join([]byte{0x95, 0x00}, []byte("mp4a"), []byte{1}, aacHeader[2:]))
	say([]byte{0xaf, 1, 1, 1})
	plain, all := p.follow(), p.on.watchAt(p.t, p.on.FLV(p.room)+"?tracks=all")
	second := join([]byte{0x95, 0x01}, []byte("mp4a"), []byte{1, 2, 2})
	say(second)
	say([]byte{0xaf, 1, 3, 3})
	all.await(second)
	plain.await([]byte{0xaf, 1, 3, 3})
	for _, body := range plain.bodies {
		if body[0] == 0x95 {
			p.t.Errorf("a player of one track received %q", body)
		}
	}
}

// player connects a player of p's room whose connect command has these properties, and waits for
// its start.
func (p *peer) player(properties ...any) *peer {
	p.t.Helper()
	q := p.on.dial(p.t)
	q.advance(handshaken)
	q.send(connect("live", properties...))
	afterConnect(q)
	q.play(p.room)
	q.await("onStatus", "NetStream.Play.Start")
	return q
}

// awaitVideo reads up to a video message with this body.
func (p *peer) awaitVideo(body []byte) {
	p.t.Helper()
	for {
		m, err := p.ReadMessage(replyTimeout)
		if err != nil {
			p.t.Fatalf("no %q: %v", body, err)
		}
		if m.Type == video && bytes.Equal(m.Payload, body) {
			return
		}
	}
}

// unsupportedCodec adds Opus to a stream with players that list their codecs.
func unsupportedCodec(p *peer) {
	p.t.Helper()
	p.newKeyFrame()
	lacking, listed := p.player("fourCcList", array{"av01", "hvc1"}), p.player("audioFourCcInfoMap", object{"Opus", 1})
	others := p.player("videoFourCcInfoMap", object{"av01", 1}) // lists no audio codecs
	say := func(kind byte, b string) {
		p.send(message{CSID: 4, Type: audio, StreamID: p.StreamID, Time: p.time,
			Payload: join([]byte{kind}, []byte("Opus"+b))}.Chunks(p.ChunkSize))
	}
	say(0x90, "OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x00")
	say(0x91, "\xFC\xFF\xFE")
	rejects("NetStream.Play.Failed")(lacking)
	body := p.newKeyFrame()
	listed.awaitVideo(body)
	others.awaitVideo(body)

	late := p.on.dial(p.t)
	late.advance(handshaken)
	late.send(connect("live", "fourCcList", array{"av01"}))
	afterConnect(late)
	late.play(p.room)
	rejects("NetStream.Play.Failed")(late)
}

// TestReconnectRequest checks that a server that stops sends ReconnectRequest to the clients that
// support it, if there is another server to reconnect to.
func TestReconnectRequest(t *testing.T) {
	t.Run("with reconnect_url", func(t *testing.T) {
		testReconnectRequest(t, true, "--reconnect_url=rtmp://other.example.com/", "--shutdown_timeout=2s")
	})
	t.Run("without", func(t *testing.T) { testReconnectRequest(t, false) })
}

func testReconnectRequest(t *testing.T, asks bool, flags ...string) {
	t.Parallel()
	s := start(t, flags...)
	encoder := s.dial(t)
	encoder.advance(handshaken)
	encoder.send(connect("live", "capsEx", 1))
	afterConnect(encoder)
	encoder.advance(publishing)
	fanned, alone, old := encoder.player("capsEx", 1), encoder.player("capsEx", 3), encoder.player()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Stop()
	}()
	for n, p := range []*peer{encoder, fanned, alone, old} {
		asked := false
		p.ends(func(m message) {
			if bytes.Contains(m.Payload, []byte("NetConnection.Connect.ReconnectRequest")) {
				asked = true
				if want := join(short("tcUrl"), amf("rtmp://other.example.com/live")); !bytes.Contains(m.Payload, want) {
					t.Errorf("the request to peer %d is %q, want it to contain %q", n, m.Payload, want)
				}
			}
			if n == 0 && bytes.Contains(m.Payload, []byte("error")) {
				t.Errorf("the encoder receives %q: its connection should just be lost", m.Payload)
			}
		})
		if want := asks && n < 3; asked != want {
			t.Errorf("peer %d was asked to reconnect: %v, want %v", n, asked, want)
		}
	}
	<-stopped
}
