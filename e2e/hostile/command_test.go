package hostile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

const (
	connectFailed = "NetConnection.Connect.Failed"
	invalidApp    = "NetConnection.Connect.InvalidApp"
	badName       = "NetStream.Publish.BadName"
	publishFailed = "NetStream.Publish.Failed"
	notFound      = "NetStream.Play.StreamNotFound"
)

// commandRows are about connect, and commands before it.
func commandRows() []row {
	rows := []row{
		{name: "empty command", at: handshaken, send: message{Type: command}.DefaultChunks(), want: closes},
		{name: "number as command name", at: handshaken, send: call(0, 1, 1), want: closes},
		{name: "null as command name", at: connected, send: call(0, nil, 1), want: closes},
		{name: "createStream before connect", at: handshaken, send: call(0, "createStream", 1, nil),
			want: rejects(connectFailed)},
		{name: "publish before connect", at: handshaken, send: call(1, "publish", 1, nil, "key", "live"),
			want: rejects(connectFailed)},
		{name: "play before connect", at: handshaken, send: call(1, "play", 1, nil, "bystander"),
			want: rejects(connectFailed)},
		{name: "connect twice", at: connected, send: connect("other"),
			do: func(p *peer) { p.await("_error", "NetConnection.Connect.") }, want: works},
		{name: "connect without an object", at: handshaken, send: call(0, "connect", 1),
			want: rejects("NetConnection.Connect.")},
		{name: "connect with null", at: handshaken, send: call(0, "connect", 1, nil),
			want: rejects("NetConnection.Connect.")},
		{name: "connect with an array", at: handshaken, send: call(0, "connect", 1, array{"app", "live"}),
			want: rejects("NetConnection.Connect.")},
		{name: "connect with a number", at: handshaken, send: call(0, "connect", 1, 7),
			want: rejects("NetConnection.Connect.")},
		{name: "no tcUrl", at: handshaken, send: call(0, "connect", 1, object{"app", "live"}), do: afterConnect,
			want: works},
		{name: "number as tcUrl", at: handshaken, send: connect("live", "tcUrl", 7), do: afterConnect,
			want: works},
		{name: "tcUrl of another app", at: handshaken, send: connect("live", "tcUrl", "rtmp://127.0.0.1/other"),
			do: afterConnect, want: works},
		{name: "unknown app", at: handshaken, send: connect("cinema"), want: rejects(invalidApp)},
		{name: "disabled app", at: handshaken, send: connect("closed"), want: rejects("NetConnection.Connect.")},
		{name: "empty app", at: handshaken, send: connect(""), want: rejects("NetConnection.Connect.")},
		{name: "number as app", at: handshaken, send: connect("live", "app", 7),
			want: rejects("NetConnection.Connect.")},
		{name: "1000 codecs and a wildcard", at: handshaken, send: connect("live", "capsEx", 15,
			"fourCcList", append(array{"*"}, manyCodecs()...),
			"videoFourCcInfoMap", append(object{"*", 7}, manyKeys(1000, func(n int) string { return fmt.Sprint("c", n) })...)),
			do: afterConnect, want: works},
	}
	// App and name alone identify a stream: a tcUrl never routes. An invalid one is still refused.
	for what, url := range map[string]string{
		"percent signs": "rtmp://h/%zz", "control characters": "rtmp://h/\x00\r\n\x1b[2J",
		"60,000 bytes": "rtmp://h/" + strings.Repeat("a", 60_000), "no scheme": "live", "no host": "rtmp://",
	} {
		rows = append(rows, row{name: "tcUrl with " + what, at: handshaken, send: connect("live", "tcUrl", url),
			want: rejects("NetConnection.Connect.")})
	}
	for what, url := range map[string]string{
		"zone": "rtmp://[fe80::1%25eth0]/live", "user": "rtmp://user:password@h/live",
		"query": "rtmp://h/live?x=y", "fragment": "rtmp://h/live#x", "dots": "rtmp://h/../../live", "nothing": "",
	} {
		rows = append(rows, row{name: "tcUrl with " + what, at: handshaken, send: connect("live", "tcUrl", url),
			do: afterConnect, want: works})
	}
	return rows
}

func manyCodecs() array {
	var a array
	for n := range 1000 {
		a = append(a, fmt.Sprintf("%04d", n))
	}
	return a
}

// publishRows are about publish and related commands.
func publishRows() []row {
	publishing1 := func(values ...any) func(*peer) {
		return func(p *peer) {
			p.t.Helper()
			p.send(call(p.StreamID, append([]any{"publish", 3, nil}, values...)...))
		}
	}
	// with publishes with a variant of the key.
	with := func(variant func(key string) string) func(*peer) {
		return func(p *peer) {
			p.t.Helper()
			name := variant(p.streamKey())
			p.on.remember(name)
			p.publish(name)
		}
	}
	rows := []row{
		// A second request is refused, and the first stays in effect.
		{name: "publish twice", at: publishing,
			do: func(p *peer) { p.publish(p.streamKey()); p.await("onStatus", badName) }, want: works},
		{name: "play after publish", at: publishing,
			do: func(p *peer) { p.play("bystander"); p.await("onStatus", notFound) }, want: works},
		{name: "connect after publish", at: publishing, send: connect("live"),
			do: func(p *peer) { p.await("_error", "NetConnection.Connect.") }, want: works},
		{name: "no stream name", at: connected, do: publishing1(), want: rejects(badName)},
		{name: "null as stream name", at: connected, do: publishing1(nil), want: rejects(badName)},
		{name: "number as stream name", at: connected, do: publishing1(7), want: rejects(badName)},
		{name: "empty stream name", at: connected, do: publishing1(""), want: rejects(badName)},
		{name: "room name as key", at: connected, do: func(p *peer) { p.publish("bystander") }, want: rejects(badName)},
		{name: "key with a changed bit", at: connected, do: with(func(k string) string { return string(k[0]^1) + k[1:] }),
			want: rejects(badName)},
		{name: "key without its last character", at: connected, do: with(func(k string) string { return k[:47] }),
			want: rejects(badName)},
		{name: "key in other case", at: connected, do: with(swapCase), want: rejects(badName)},
		{name: "key with a trailing space", at: connected, do: with(func(k string) string { return k + " " }),
			want: rejects(badName)},
		{name: "key with a leading space", at: connected, do: with(func(k string) string { return " " + k }),
			want: rejects(badName)},
		{name: "percent-encoded key", at: connected,
			do: with(func(k string) string { return fmt.Sprintf("%%%02x%s", k[0], k[1:]) }), want: rejects(badName)},
		{name: "key with a path", at: connected, do: with(func(k string) string { return k + "/x" }), want: rejects(badName)},
		// The query is not part of the name: encoders add their own parameters.
		{name: "key with a query", at: connected, do: publishesVariant(func(k string) string { return k + "?x=y" }),
			want: works},
		{name: "key of another app", at: handshaken, do: func(p *peer) {
			p.key = p.on.WithT(p.t).Call("/control/get?app=other&room=" + p.room).Text()
			p.on.remember(p.key)
			p.connect()
			p.publish(p.key)
		}, want: rejects(badName)},
		{name: "1000 createStream commands", at: connected, do: manyStreams, want: works},
		{name: "deleteStream of unknown streams", at: connected,
			send: join(call(0, "deleteStream", 0, nil, 77), call(0, "deleteStream", 0, nil, "x"),
				call(0, "closeStream", 0, nil)), want: works},
		{name: "media before the publish reply", at: connected, do: func(p *peer) {
			p.publish(p.streamKey())
			p.newKeyFrame()
			p.readPublishStarted()
			body := p.newKeyFrame()
			p.at = publishing
			p.on.watch(p.t, p.room).await(body)
		}, want: works},
		// The end of the stream is the end of the connection: the server reads nothing after it.
		{name: "media after FCUnpublish", at: publishing, do: func(p *peer) {
			p.send(call(p.StreamID, "FCUnpublish", 9, nil, p.streamKey()))
			p.newKeyFrame()
		}, want: closes},
		{name: "one token", at: connected, do: publishesVariant(func(k string) string { return k + "?token=a" }),
			want: works},
		{name: "two tokens in the name", at: connected, do: with(func(k string) string { return k + "?token=a&token=b" }),
			want: rejects(badName)},
		{name: "tokens in app and name", at: handshaken, do: func(p *peer) {
			p.app = "live?token=a"
			p.connect()
			p.publish(p.streamKey() + "?token=b")
		}, want: rejects(badName)},
		{name: "tokens in tcUrl and name", at: handshaken,
			send: connect("live", "tcUrl", "rtmp://127.0.0.1/live?token=c"), do: func(p *peer) {
				afterConnect(p)
				p.publish(p.streamKey() + "?token=b")
			}, want: rejects(badName)},
		{name: "token in tcUrl", at: handshaken, send: connect("live", "tcUrl", "rtmp://127.0.0.1/live?token=c"),
			do: afterConnect, want: works},
	}
	for _, typ := range []any{"record", "append", "LIVE", "", nil, 7} {
		rows = append(rows, row{name: fmt.Sprintf("type %v", typ), at: connected, do: func(p *peer) {
			publishing1(p.streamKey(), typ)(p)
			p.readPublishStarted()
			p.at = publishing
		}, want: works})
	}
	return rows
}

// publishesVariant publishes with a variant of the key that is valid.
func publishesVariant(variant func(key string) string) func(*peer) {
	return func(p *peer) {
		p.t.Helper()
		p.publish(variant(p.streamKey()))
		p.readPublishStarted()
		p.at = publishing
	}
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if l := strings.ToLower(string(r)); l != string(r) {
			return rune(l[0])
		}
		return rune(strings.ToUpper(string(r))[0])
	}, s)
}

// manyStreams creates a thousand streams. The limit is eight, including the one of a valid session.
func manyStreams(p *peer) {
	p.t.Helper()
	for n := range 1000 {
		p.send(call(0, "createStream", 10+n, nil))
	}
	if made := p.count(func(m message) bool { return m.IsCommand("_result") }); made != 7 {
		p.t.Errorf("%d more streams, want 7", made)
	}
}

// playRows are about play, and other commands of players.
func playRows() []row {
	with := func(values ...any) func(*peer) {
		return func(p *peer) {
			p.t.Helper()
			p.send(call(p.StreamID, append([]any{"play", 3, nil}, values...)...))
		}
	}
	rows := []row{
		{name: "no stream name", at: connected, do: with(), want: rejects(notFound)},
		{name: "null as stream name", at: connected, do: with(nil), want: rejects(notFound)},
		{name: "room without a publisher", at: connected, do: with("nobody"), want: rejects(notFound)},
		{name: "query of 8 kB", at: connected, do: with("bystander?a=" + strings.Repeat("x", 8000)), want: plays},
		{name: "query of 60 kB", at: connected, do: with("bystander?a=" + strings.Repeat("x", 60_000)),
			want: rejects(notFound)},
	}
	for _, start := range []any{-2, -1, 0, 1e12, "x", nil} {
		rows = append(rows, row{name: fmt.Sprintf("start %v", start), at: connected,
			do: with("bystander", start, -1, true), want: plays})
	}
	for name, ask := range map[string][]byte{
		"getStreamLength before play": call(1, "getStreamLength", 8, nil, "bystander"),
		"_checkbw before play":        call(0, "_checkbw", 8, nil),
		"seek before play":            call(1, "seek", 8, nil, 1000),
	} {
		rows = append(rows, row{name: name, at: connected, send: ask, do: with("bystander"), want: plays})
	}
	for name, ask := range map[string][]byte{
		"seek": call(1, "seek", 8, nil, 1e12), "pause": call(1, "pause", 8, nil, true, 0),
		"play2":           call(1, "play2", 8, nil, object{"streamName", "x"}),
		"getStreamLength": call(1, "getStreamLength", 8, nil, "x"), "_checkbw": call(0, "_checkbw", 8, nil),
		"receiveAudio": call(1, "receiveAudio", 8, nil, false),
		"media":        message{CSID: 6, Type: video, StreamID: 1, Payload: keyFrame([]byte("x"))}.DefaultChunks(),
		"a flood":      bytes.Repeat(call(1, "seek", 8, nil, 0), 1000),
	} {
		rows = append(rows, row{name: name + " while playing", at: connected, do: func(p *peer) {
			with("bystander")(p)
			plays(p)
			p.send(ask)
		}, want: plays})
	}
	return rows
}

// plays waits for ten more frames of the bystander.
func plays(p *peer) {
	p.t.Helper()
	for n := 0; n < 10; {
		m, err := p.ReadMessage(replyTimeout)
		if err != nil {
			p.t.Fatalf("after %d frames: %v", n, err)
		}
		if m.Type == video {
			n++
		}
	}
}

// revokedKeys checks that a publisher is disconnected when its key is replaced or deleted, and that
// the key no longer publishes.
func revokedKeys(t *testing.T, s *target) int {
	for n, revoke := range []string{"reset", "delete"} {
		p := s.dial(t)
		p.room = "old-" + revoke
		p.advance(publishing)
		if e := s.WithT(t).Call("/control/" + revoke + "?room=" + p.room); e.Status != 200 {
			t.Fatalf("%s: %d", revoke, e.Status)
		} else if n == 0 {
			s.remember(e.Text())
		}
		p.ends(func(message) {})
		again := s.dial(t)
		again.room, again.key = p.room, p.key
		again.advance(connected)
		again.publish(p.key)
		rejects(badName)(again)
	}
	return 4
}
