package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"livego/internal/container/flv"
)

func TestMarker(t *testing.T) {
	for _, m := range []marker{{1, 2, 3}, {1 << 62, 1<<32 - 1, 1<<32 - 1}, {0, 0, 0}} {
		b := appendMarker([]byte("before"), m)
		if len(b) != len("before")+markerSize {
			t.Errorf("marker of %d bytes, want %d", len(b)-len("before"), markerSize)
		}
		for i := range b[8 : len(b)-1] {
			if b[8+i] == 0 && i > 2 {
				t.Errorf("a zero at %d", i)
			}
		}
		got, end, ok := findMarker(append(b, "after"...))
		if !ok || got != m || end != len(b) {
			t.Errorf("found %v, ending at %d, %t; want %v at %d", got, end, ok, m, len(b))
		}
		if _, _, ok := findMarker(b[:len(b)-1]); ok {
			t.Error("found a truncated marker")
		}
	}
}

func TestHistogram(t *testing.T) {
	var a, b histogram
	for i := range 10_000 {
		h := &a
		if i%2 == 1 {
			h = &b
		}
		h.add(time.Duration(i+1) * 10 * time.Microsecond)
	}
	a.merge(&b)
	p := a.percentiles()
	for _, c := range []struct{ got, want float64 }{{p.P50, 50}, {p.P90, 90}, {p.P99, 99}, {p.P999, 99.9}, {p.Max, 100}} {
		if c.got < c.want*.984 || c.got > c.want*1.016 {
			t.Errorf("%v, want %v", p, c.want)
		}
	}
	var one histogram
	one.add(time.Hour)
	one.add(-time.Second)
	if got := one.quantile(1); got != time.Hour {
		t.Errorf("maximum is %v", got)
	}
	if got := (&histogram{}).percentiles(); got != (Percentiles{}) {
		t.Errorf("empty histogram: %v", got)
	}
	for d := time.Duration(1); d > 0 && d < 24*time.Hour; d = d*5/4 + 1 {
		var h histogram
		h.add(d)
		h.max = 1 << 62
		if got := h.quantile(.5); d < time.Hour && (got < d*98/100 || got > d*102/100) {
			t.Errorf("%v counts as %v", d, got)
		}
	}
}

// TestViewerCountsStreamFaults feeds a viewer with frames that are missing, repeated, damaged and
// out of order.
func TestViewerCountsStreamFaults(t *testing.T) {
	src := mustSynthesize(t, 400_000, 10, time.Second)
	stream := append([]byte(okResponse), flv.FileHeader(true, true)...)
	for _, h := range src.header {
		stream = flv.AppendTag(stream, h.typ, 0, h.body)
	}
	var sc measurement
	sc.clock = newClock()
	sc.window.Store(&window{sc.now(), sc.now() + int64(time.Hour)})
	sent, seq := sc.now(), uint32(0)
	frame := func(step uint32, at time.Duration, damage bool) {
		seq += step
		it := src.cycles[0].items[(seq-1)%10]
		body := it.appendBody(nil, sent+int64(seq), seq)
		if damage {
			body[len(body)-3] ^= 1
		}
		stream = flv.AppendTag(stream, it.typ, uint32(at.Milliseconds()), body)
	}
	frame(1, 0, false)
	frame(1, 100*time.Millisecond, false)
	frame(3, 400*time.Millisecond, false)  // two missing
	frame(0, 400*time.Millisecond, false)  // repeated
	frame(1, 300*time.Millisecond, true)   // back in time and damaged
	frame(1, 1000*time.Millisecond, false) // a gap
	sum := newViewerStats()
	target, err := parseTarget("http://h/x.flv")
	if err != nil {
		t.Fatal(err)
	}
	v := newViewer(target, &sc, sum, nil, true)
	v.start()
	if _, err := v.receive(stream); err != nil {
		t.Fatal(err)
	}
	v.end(errClosed)
	got := fmt.Sprintln(sum.joined, sum.connected, sum.ended, sum.frames, sum.missing, sum.repeats, sum.stepsBack,
		sum.gaps, sum.checked, sum.corrupt, sum.errors, sum.latency.n)
	want := fmt.Sprintln(1, 0, 1, 5, 2, 1, 1, 1, 6, 1, map[string]int{errClosed.Error(): 1}, 5)
	if got != want {
		t.Errorf("joined, live, ended, frames, missing, repeats, back, gaps, checked, corrupt, errors, latencies\ngot  "+
			"%swant %s", got, want)
	}
}

func TestParsePlaylist(t *testing.T) {
	list, err := parsePlaylist([]byte("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx/ts.m3u8?s=2\n"+
		"#EXT-X-STREAM-INF:BANDWIDTH=2\ny.m3u8\n"), position{})
	if err != nil || list.variant != "x/ts.m3u8?s=2" {
		t.Errorf("variant %v, %v", list.variant, err)
	}
	list, err = parsePlaylist([]byte("#EXTM3U\r\n#EXT-X-TARGETDURATION:3\r\n#EXT-X-MEDIA-SEQUENCE:41\r\n"+
		"#EXTINF:2,\r\na.ts\r\n#EXTINF:2,\r\nb.ts\r\n#EXT-X-ENDLIST\r\n"), position{})
	if err != nil || list.target != 3*time.Second || list.sequence != 41 || len(list.segments) != 2 || !list.ended ||
		list.segments[1] != "b.ts" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, bad := range []string{"", "<html>", "#EXTM3U\n#EXT-X-TARGETDURATION:x\n",
		"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-1\n"} {
		if _, err := parsePlaylist([]byte(bad), position{}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"rtmp://h/live/x?token=a/b", "rtmp h:1935 live x?token=a/b rtmp://h/live false"},
		{"rtmps://h:1936/a/b/x", "rtmp h:1936 a/b x rtmps://h:1936/a/b true"},
		{"http://[::1]/live/x.flv", "flv [::1]:80    false"},
		{"https://h/live/x.m3u8?token=t", "hls h:443    true"},
		{"llhls+http://h/live/x.m3u8", "llhls h:80    false"},
		{"ws://h:7001/live/x.flv", "ws h:7001    false"},
		{"wss://h/live/x.flv", "ws h:443    true"},
		{"tcp://h:1", "tcp h:1    false"},
		{"rtmp://h/x", "error"},
		{"rtmp://h/live/", "error"},
		{"srt://h/x", "error"},
		{"movie", "error"},
	} {
		got := "error"
		if p, err := parseTarget(c.url); err == nil {
			got = fmt.Sprint(p.proto, " ", p.addr, " ", p.app, " ", p.name, " ", p.tcURL, " ", p.tls)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.url, got, c.want)
		}
	}
}

func TestProtocolNames(t *testing.T) {
	for url, want := range map[string]string{
		"rtmp://h/a/x": "rtmp", "rtmps://h/a/x": "rtmps", "https://h/x.flv": "https-flv", "ws://h/x.flv": "ws",
		"wss://h/x.flv": "wss", "https://h/x.m3u8": "https-hls", "llhls+https://h/x.m3u8": "https-llhls",
	} {
		p, err := parseTarget(url)
		if err != nil || p.protocol() != want {
			t.Errorf("%s: %s, %v, want %s", url, p.protocol(), err, want)
		}
		if p.http2 = true; p.tls && p.proto == HLS && p.protocol() != "h2-hls" {
			t.Errorf("%s by HTTP/2: %s", url, p.protocol())
		}
	}
}

// TestFileIsLooped plays a file in a loop: timestamps continue, and frames are marked.
func TestFileIsLooped(t *testing.T) {
	built := mustSynthesize(t, 400_000, 10, time.Second)
	file := flv.FileHeader(true, false)
	file = flv.AppendTag(file, flv.TypeVideo, 5000, built.header[1].body)
	for i, it := range built.cycles[0].items {
		file = flv.AppendTag(file, it.typ, uint32(5000+100*i), it.body)
	}
	src, err := parseSource(file)
	if err != nil {
		t.Fatal(err)
	}
	if src.fps != 10 || !src.hasMarkers() || src.cycles[0].period != time.Second {
		t.Errorf("%v frames per second, marked %t, in %v", src.fps, src.hasMarkers(), src.cycles[0].period)
	}
	head := newPlayhead(src)
	for i := range 35 {
		if _, at := head.advance(); at != time.Duration(i)*100*time.Millisecond {
			t.Fatalf("frame %d at %v", i, at)
		}
	}
	other := append([]byte{}, built.header[1].body...)
	other[6] ^= 1
	changed := flv.AppendTag(file, flv.TypeVideo, 7000, other)
	if _, err := parseSource(changed); err == nil || !strings.Contains(err.Error(), "changes") {
		t.Errorf("configuration change: %v", err)
	}
	if _, err := parseSource(flv.FileHeader(true, true)); err == nil {
		t.Error("an empty file was accepted")
	}
}

func TestRunRejectsInvalidOptions(t *testing.T) {
	for _, o := range []Options{
		{},
		{Play: []string{"nowhere"}},
		{Play: []string{"tcp://127.0.0.1:1"}},
		{Play: []string{"rtmp://127.0.0.1:1/live/x"}, Publish: []string{"rtmp://127.0.0.1:1/live/x"}, Bitrate: 1},
		{Play: []string{"rtmp://127.0.0.1:1/live/x"}, Publish: []string{"rtmp://127.0.0.1:1/live/x"}}, // nobody listens
		{Play: []string{"rtmp://127.0.0.1:1/live/x"}},
	} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("%+v was run", o)
		}
	}
}

// hasMarkers reports whether latency can be measured on s.
func (s *source) hasMarkers() bool {
	for _, c := range s.cycles {
		for _, it := range c.items {
			if it.mark > 0 {
				return true
			}
		}
	}
	return false
}
