package hostile

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// badNames are invalid names of apps and rooms.
var badNames = []string{
	"..", "../x", "../../victim", "a/../../b", "....//", ".", ".hidden", // path traversal
	"%2e%2e%2f", "%252e", "..%5c", `\`, `C:\`, "//host", "/abs", // encoded and absolute paths
	"a\x00b", "x\r\nSet-Cookie: a=b", "x\n#EXTINF:1,", "a\tb", "\x1b[2J", "a\x7f", // control characters
	strings.Repeat("a", 129), strings.Repeat("a", 60_000), strings.Repeat("a", 255) + ".flv", // too long
	"<img src=x onerror=alert(1)>", `'"><script>`, "${7*7}", "{{7*7}}", "%n%s", // markup and templates
	// device names, file formats, other characters, and the form of a stream key
	"CON", "nul.x", "aux", "com1", "x.", "x ", " x", "a:b", "x.flv", "y.m3u8", "z.ts", "\xff\xfe", "é", "\u202ex",
	strings.Repeat("Aa0", 16),
}

// nameRows use each name as app, as key to publish with, as room to play, and in tcUrl beside a
// valid app.
func nameRows() []row {
	var rows []row
	for n, name := range badNames {
		add := func(where string, r row) {
			r.name = fmt.Sprintf("name %d %s %.20q", n, where, name)
			rows = append(rows, r)
		}
		add("app", row{at: handshaken, send: call(0, "connect", 1, object{"app", name}),
			want: rejects("NetConnection.Connect.")})
		add("publish", row{at: connected, do: func(p *peer) { p.publish(name) }, want: rejects(badName)})
		add("play", row{at: connected, do: func(p *peer) { p.play(name) }, want: rejects(notFound)})
		add("tcUrl", row{at: handshaken, send: connect("live", "tcUrl", "rtmp://127.0.0.1/"+name), want: neverRoutes})
	}
	for _, name := range []string{"stat", "api", "control", "whip", "statics", "API"} {
		rows = append(rows, row{name: "reserved app " + name, at: handshaken, send: connect(name),
			want: rejects("NetConnection.Connect.")})
	}
	// Room names are case-sensitive.
	rows = append(rows, row{name: "room in other case", at: connected, do: func(p *peer) { p.play("Bystander") },
		want: rejects(notFound)})
	return rows
}

// neverRoutes requires that a connect is refused, or uses its app.
func neverRoutes(p *peer) {
	p.t.Helper()
	m := p.await("_", "NetConnection.Connect.")
	if m.IsCommand("_error") {
		return
	}
	p.send(call(0, "createStream", 2, nil))
	p.readStreamCreated()
	p.at = connected
	works(p)
}

// badPaths are request targets with the names, escaped as clients do and otherwise.
func badPaths() []string {
	var paths []string
	for _, name := range badNames {
		if len(name) > 4000 {
			continue // other rows test long URLs
		}
		escaped := url.PathEscape(name)
		for _, ext := range []string{".flv", ".m3u8", "/index.m3u8"} {
			paths = append(paths, "/live/"+escaped+ext, "/"+escaped+"/movie"+ext)
		}
		paths = append(paths, "/live/"+strings.ReplaceAll(escaped, "%2F", "/")+".flv", "/live/bystander/"+escaped+".ts")
	}
	return append(paths,
		"/hls/room/../../etc/passwd.ts", "/live/../../etc/passwd", "/live/bystander/../../etc/passwd.ts",
		"/live//bystander.flv", "/live/./bystander.flv", "/%2e%2e/%2e%2e/etc/passwd", // path traversal
		// reserved names and incomplete paths
		"/live/x.flv.flv", "/live/index.m3u8", "/stat", "/api", "/control/get?room=x", "/whip", "/live", "/live/", "/", "//",
		"/live/nobody.m3u8", "/live/nobody/ts.m3u8", "/live/nobody/0-0.ts",
		"/live/bystander/999-0.ts", "/live/bystander/9999999999999999999999-1.ts", // absent segments
		"/live/bystander/-1--1.ts",
		"/other/bystander.flv", "/live/Bystander.flv", "/live/nobody.flv", // other rooms
	)
}

// TestRoomNamedLikeKey requests rooms that look like keys, and rooms with invalid names.
func TestRoomNamedLikeKey(t *testing.T) {
	t.Parallel()
	s := start(t)
	key := s.streamKey(t, "movie")
	for _, room := range append([]string{key}, badNames...) {
		if len(room) > 4000 {
			continue
		}
		for _, verb := range []string{"get", "reset", "delete"} {
			if e := s.Call("/control/" + verb + "?room=" + url.QueryEscape(room)); e.Status < 400 || e.Status >= 500 {
				t.Errorf("%s of room %.40q: %d, want a refusal", verb, room, e.Status)
			}
		}
	}
	s.audit(t, len(badNames))
}
