package hostile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
)

func relayCall(direction, oper, app, room, target string) string {
	return "/control/" + direction + "?oper=" + oper + "&app=" + app + "&name=" + room + "&url=" + url.QueryEscape(target)
}

// relayCalls are requests for relays with forbidden or invalid targets.
func relayCalls(canary string) (calls []operatorCall) {
	start := func(direction, target string, want ...int) {
		calls = append(calls, operatorCall{name: direction + " " + target[:min(len(target), 60)], method: "GET",
			target: relayCall(direction, "start", "live", "x", target), want: want})
	}
	for _, host := range []string{
		"169.254.169.254", "127.0.0.1", "localhost", "0", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::]",
		"0.0.0.0", "[::ffff:127.0.0.1]",
		"[fd00::1]", "[fe80::1%25lo]", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "100.100.100.200",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::7f00:1]",
		"[::ffff:0:127.0.0.1]", "[::ffff:0:169.254.169.254]", "[::10.0.0.1]", "[64:ff9b:1::127.0.0.1]",
		"[64:ff9b:1:7f00:0:100::]", "[2001:0:5db8:d822::80ff:fffe]", "[2606:2800:220:1:0:5efe:127.0.0.1]", "224.0.0.1",
		"255.255.255.255",
	} {
		start("push", "rtmp://"+host+"/live/"+canary, 400, 403)
		start("pull", "rtmps://"+host+"/live/"+canary, 400, 403)
		start("pull", "http://"+host+"/live/"+canary, 400, 403)
		start("pull", "https://"+host+":8443/"+canary, 400, 403)
	}
	for _, target := range []string{
		"unix:/run/x", "file:///etc/passwd", "gopher://h/x", "exec:/bin/sh", "concat:a|b", "ftp://h/x", "//h/a/b", "/a/b",
		"rtmp:", "rtmp://", "rtmpe://h/a/b", "-i",
	} {
		start("push", target, 400)
		start("pull", target, 400)
	}
	for _, target := range []string{
		"rtmp://user:" + canary + "@h/a/b", "rtmp://" + canary + "@h/a/b", "rtmp://h/a/b\r\nSET x " + canary,
		"rtmp://h/a/b%0d%0a" + canary, "rtmp://h/a/b#" + canary,
		"rtmp://h:0/a/" + canary, "rtmp://h:65536/a/" + canary, "rtmp://h:25/a/" + canary, "rtmp://h:-1/a/" + canary,
		"rtmp://h:/a/" + canary, "rtmp://h/" + canary,
		"rtmp://h/a/\x00" + canary, "rtmp://[::1/a/" + canary, "rtmp://h/a/" + strings.Repeat("a", 3000),
	} {
		start("push", target, 400)
	}
	calls = append(calls,
		operatorCall{name: "8 KiB", method: "GET",
			target: relayCall("push", "start", "live", "x", "rtmp://h/a/"+strings.Repeat("a", 8<<10)), want: []int{414}},
		operatorCall{name: "60 KiB in a form", method: "POST", target: "/control/push", headers: []string{asForm},
			body: "oper=start&app=live&name=x&url=rtmp%3A%2F%2Fh%2Fa%2F" + strings.Repeat("a", 60<<10), want: []int{400}},
		operatorCall{name: "HLS URL", method: "GET", target: relayCall("pull", "start", "live", "x", "http://h/live/x.m3u8"),
			want: []int{400}},
		operatorCall{name: "stop of an unknown relay", method: "GET",
			target: relayCall("push", "stop", "live", "x", "rtmp://h/a/b"), want: []int{404}},
		operatorCall{name: "unknown app", method: "GET",
			target: relayCall("push", "start", "nothing", "x", "rtmp://h/a/b"), want: []int{404}},
		operatorCall{name: "relay for a cross-site page", method: "GET",
			target: relayCall("push", "start", "live", "x", "rtmp://h/a/b"), headers: []string{"Sec-Fetch-Site: cross-site"},
			want: []int{403}},
	)
	return calls
}

// upstreams are what a relay may find at the other end of its TCP connection.
func upstreams(s *target) map[string]func(net.Conn) {
	flood := func(nc net.Conn, b []byte) {
		for {
			if _, err := nc.Write(b); err != nil {
				return
			}
		}
	}
	answer := func(b string) func(net.Conn) {
		return func(nc net.Conn) {
			nc.Read(make([]byte, 4096)) // the request
			io.WriteString(nc, "HTTP/1.1 "+b)
		}
	}
	flv := "200 OK\r\n\r\nFLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
	return map[string]func(net.Conn){
		"reset": func(nc net.Conn) {
			nc.Read(make([]byte, 1)) // so that it is connected
			nc.(*net.TCPConn).SetLinger(0)
		},
		"closes":              func(net.Conn) {},
		"garbage":             func(nc net.Conn) { io.WriteString(nc, strings.Repeat("\xff\x00garbage", 1000)) },
		"garbage without end": func(nc net.Conn) { flood(nc, filler(64<<10)) },
		"silent":              func(nc net.Conn) { io.Copy(io.Discard, nc) },
		"a byte a second": func(nc net.Conn) {
			nc.Read(make([]byte, 4096))
			every := time.NewTicker(time.Second)
			defer every.Stop()
			for _, b := range []byte("HTTP/1.1 " + flv) {
				if _, err := nc.Write([]byte{b}); err != nil {
					return
				}
				<-every.C
			}
		},
		"header without end": func(nc net.Conn) {
			answer("200 OK\r\n")(nc)
			flood(nc, []byte("X-A: "+strings.Repeat("a", 8000)+"\r\n"))
		},
		"metadata without end": func(nc net.Conn) {
			answer(flv)(nc)
			flood(nc, []byte("\x12\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00\x02\x00\x0aonMetaData\x00\x00\x00\x18"))
		},
		"a tag of 16 MB": func(nc net.Conn) {
			answer(flv + "\x09\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00")(nc)
			flood(nc, make([]byte, 64<<10))
		},
		"redirect to this server": answer("302 Found\r\nLocation: http://" + s.Addr("httpflv_addr") +
			"/live/x.flv\r\nContent-Length: 0\r\n\r\n"),
		"redirect to the API": answer("307 T\r\nLocation: http://" + s.Addr("api_addr") +
			"/control/reset?room=x\r\nContent-Length: 0\r\n\r\n"),
		"redirect to metadata": answer("302 Found\r\nLocation: http://169.254.169.254/latest/meta-data\r\nContent-Length: " +
			"0\r\n\r\n"),
		"redirect to a file": answer("302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
		"redirect to itself": answer("302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"),
		"playlist":           answer("200 OK\r\n\r\n#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
	}
}

// listen serves connections until the test ends.
func listen(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, nc)
			mu.Unlock()
			all.Go(func() {
				do(nc)
				nc.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, nc := range conns {
			nc.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return ln.Addr().String()
}

// TestRelays checks relays with broken upstreams, the limit of relays, concurrent starts and stops,
// and that a relay does not connect to this server.
func TestRelays(t *testing.T) {
	t.Parallel()
	s := start(t, "--relay_allow=127.0.0.0/8", "--relay_max=60", "--read_timeout=1s")
	inputs := 0
	call := func(target string, want int) {
		t.Helper()
		inputs++
		if resp, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: target}); resp.StatusCode != want {
			t.Errorf("%.100s: HTTP %d %.200s, want %d", target, resp.StatusCode, body, want)
		}
	}
	for _, l := range []string{"rtmp_addr", "httpflv_addr", "hls_addr", "api_addr"} {
		call(relayCall("pull", "start", "live", "x", "http://"+s.Addr(l)+"/live/x.flv"), 403)
		call(relayCall("push", "start", "live", "x", "rtmp://"+s.Addr(l)+"/live/x"), 403)
	}
	call(relayCall("push", "start", "closed", "x", "rtmp://"+s.Addr("rtmp_addr")+"/live/x"), 404)

	// Each upstream in both protocols, all at once.
	rows := upstreams(s)
	started := []string{}
	for name, do := range rows {
		addr := listen(t, do)
		for n, target := range []string{"http://" + addr + "/live/x.flv", "rtmp://" + addr + "/live/x"} {
			room := fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), n)
			call(relayCall("pull", "start", "live", room, target), 200)
			call(relayCall("pull", "start", "live", room, target), 409)
			started = append(started, relayCall("pull", "stop", "live", room, target))
		}
	}
	const window = 10 * time.Second
	before := s.CPUTicks()
	<-time.After(window)
	if used := time.Duration(s.CPUTicks()-before) * 10 * time.Millisecond; used > window/20 {
		t.Errorf("%d relays took %v of processor time in %v, want at most 5 %% in all", len(started), used, window)
	} else {
		t.Logf("%d relays took %v of processor time in %v", len(started), used, window)
	}
	var list struct {
		Relays []struct {
			Room, State, Error string
			Attempts           int
		}
	}
	_, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: "/api/v1/relays"})
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Relays) != len(started) {
		t.Fatalf("%d relays, %v, want %d: %s", len(list.Relays), err, len(started), body)
	}
	for _, r := range list.Relays {
		if r.State == "running" || r.Attempts > 8 { // 0, 0.5, 1.5, 3.5, 7.5 s at the soonest
			t.Errorf("%s: %s after %d attempts, %s", r.Room, r.State, r.Attempts, r.Error)
		}
	}
	for _, target := range started {
		call(target, 200)
		call(target, 404)
	}

	// As many relays as the limit allows.
	open := listen(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	limited := 0
	for n := range 200 {
		inputs++
		switch resp, body := doRequest(t, s.API(""),
			operatorCall{method: "GET", target: relayCall("push", "start", "live", fmt.Sprint("r", n),
				"rtmp://"+open+"/a/b")}); resp.StatusCode {
		case http.StatusOK:
		case http.StatusTooManyRequests:
			limited++
		default:
			t.Errorf("relay %d: HTTP %d %s", n, resp.StatusCode, body)
		}
	}
	if limited != 140 {
		t.Errorf("%d of 200 relays were refused, want 140", limited)
	}
	for n := range 60 {
		call(relayCall("push", "stop", "live", fmt.Sprint("r", n), "rtmp://"+open+"/a/b"), 200)
	}

	// One relay, started and stopped concurrently.
	var all sync.WaitGroup
	bad := make(chan error, 1)
	for range 10 {
		all.Go(func() {
			for n := range 100 {
				oper := []string{"start", "stop"}[n%2]
				resp, err := harness.Client().Get(s.API(relayCall("pull", oper, "live", "race", "rtmp://"+open+"/a/b")))
				if err == nil {
					resp.Body.Close()
					switch resp.StatusCode {
					case 200, 404, 409:
						continue
					}
					err = errors.New(resp.Status)
				}
				select {
				case bad <- err:
				default:
				}
			}
		})
	}
	all.Wait()
	inputs += 1000
	select {
	case err := <-bad:
		t.Error(err)
	default:
	}
	doRequest(t, s.API(""), operatorCall{method: "GET",
		target: relayCall("pull", "stop", "live", "race", "rtmp://"+open+"/a/b")})
	if _, body := doRequest(t, s.API(""), operatorCall{method: "GET", target: "/api/v1/relays"}); !strings.Contains(body,
		`"relays":[]`) {
		t.Errorf("relays are left: %s", body)
	}
	s.audit(t, inputs)
}
