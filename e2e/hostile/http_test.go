package hostile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
)

// A request is the bytes of a request to the viewers' listener, and its expected status.
type request struct {
	name   string
	raw    string
	want   []int // any of
	closes bool  // the connection must end
}

func get(target string, headers ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

func requests() []request {
	const stream, nobody = "/live/bystander.flv", "/live/nobody.flv"
	rows := []request{
		{"header of 17 KiB", get(nobody, "X: "+strings.Repeat("x", 17<<10)), []int{431}, true},
		{"10,000 headers", get(nobody, slices.Repeat([]string{"X: y"}, 10_000)...), []int{431}, true},
		{"URL of 5 KiB", get("/live/" + strings.Repeat("x", 5<<10) + ".flv"), []int{414}, false},
		{"query of 5 KiB", get(nobody + "?" + strings.Repeat("x", 5<<10)), []int{414}, false},
		{"cookie of 1 MB", get(nobody, "Cookie: a="+strings.Repeat("x", 1<<20)), []int{431}, true},
		{"two content lengths", get(nobody, "Content-Length: 1", "Content-Length: 2") + "xx", []int{400}, true},
		{"content length and chunks", get(nobody, "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n",
			[]int{400},
			true},
		{"invalid chunk", get(nobody, "Transfer-Encoding: chunked") + "zz\r\n\r\n", []int{400}, true},
		{"space before the colon", get(nobody, "X : y"), []int{400}, true},
		{"negative content length", get(nobody, "Content-Length: -1"), []int{400}, true},
		// A line may end in LF alone and continue in the next (RFC 9112 sections 2.2 and 5.2).
		// Requests with a body are refused, so there is nothing to smuggle.
		{"bare LF", "GET " + nobody + " HTTP/1.1\nHost: h\n\n", []int{400, 404}, false},
		{"folded header", get(nobody, "X: y", " z"), []int{400, 404}, false},
		{"GET with a body", get(nobody, "Content-Length: 5") + "hello", []int{400}, true},
		{"no Host header", "GET " + nobody + " HTTP/1.1\r\n\r\n", []int{400}, true},
		{"two Host headers", get(nobody, "Host: other"), []int{400}, true},
		{"markup in Host", "GET " + stream + " HTTP/1.1\r\nHost: a'onmouseover=alert(1)\r\n\r\n", []int{400}, false},
		{"Host of 11 kB", "GET " + stream + " HTTP/1.1\r\nHost: " + strings.Repeat("a", 11<<10) + "\r\n\r\n", []int{400},
			false},
		{"absolute URI", get("http://evil.example" + nobody), []int{400, 405}, false},
		{"CONNECT", "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", []int{400, 405}, false},
		{"TRACE", "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", []int{405}, false},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", []int{400, 405}, false},
		{"NUL as method", "\x00 / HTTP/1.1\r\nHost: h\r\n\r\n", []int{400}, true},
		{"not HTTP", "\x05\x00\x00\r\n\r\n", []int{400}, true},
		{"POST of a gigabyte", "POST " + stream + " HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n",
			[]int{405}, true},
		{"PUT", "PUT " + stream + " HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", []int{405}, false},
		{"DELETE", "DELETE " + stream + " HTTP/1.1\r\nHost: h\r\n\r\n", []int{405}, false},
		{"disabled app", get("/closed/bystander.flv"), []int{403}, false},
		{"HTTP/1.0", "GET " + nobody + " HTTP/1.0\r\n\r\n", []int{404}, true},
	}
	for _, r := range []string{"bytes=0-", "bytes=-1", "bytes=5-1", "bytes=" + strings.Repeat("0-1,", 1000) + "2-3",
		"bytes=0-5,3-8", "frames=1"} {
		rows = append(rows, request{fmt.Sprintf("range %.20s", r), get(stream, "Range: "+r), []int{200}, false})
	}
	for _, path := range badPaths() {
		target := strings.Map(func(r rune) rune { // the rows above have what is invalid in a request line
			if r <= ' ' || r == 0x7f {
				return -1
			}
			return r
		}, path)
		rows = append(rows, request{fmt.Sprintf("path %.60q", path), get(target), []int{400, 404}, false})
	}
	return rows
}

// httpRequests sends each request on a connection of its own.
func httpRequests(t *testing.T, s *target) int {
	rows := append(requests(), upgrades()...)
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			p := s.dialTo(t, "httpflv_addr")
			p.send([]byte(r.raw))
			resp := p.response(http.MethodGet)
			if !slices.Contains(r.want, resp.StatusCode) {
				t.Errorf("HTTP %d, want one of %d", resp.StatusCode, r.want)
			}
			if e := resp.Header.Get("Content-Encoding"); e != "" {
				t.Errorf("content encoding %s", e)
			}
			if r.closes {
				p.NetConn.SetReadDeadline(time.Now().Add(replyTimeout))
				if _, err := io.Copy(io.Discard, p.Reader.R); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection was not closed")
				}
			}
		})
	}
	t.Run("HEAD", func(t *testing.T) { t.Parallel(); headIsNotCounted(t, s) })
	t.Run("gzip", func(t *testing.T) { t.Parallel(); notCompressed(t, s) })
	t.Run("pipelining", func(t *testing.T) { t.Parallel(); pipelined(t, s) })
	t.Run("segments of another room", func(t *testing.T) { t.Parallel(); segmentsOfOtherRoom(t, s) })
	t.Run("query in a playlist", func(t *testing.T) { t.Parallel(); queryInPlaylist(t, s) })
	return len(rows) + 5
}

// response reads the response to a request with that method.
func (p *peer) response(method string) *http.Response {
	p.t.Helper()
	p.NetConn.SetReadDeadline(time.Now().Add(replyTimeout))
	resp, err := http.ReadResponse(p.Reader.R, &http.Request{Method: method})
	if err != nil {
		p.t.Fatalf("no response: %v", err)
	}
	return resp
}

func headIsNotCounted(t *testing.T, s *target) {
	p := s.dial(t)
	p.advance(publishing)
	for range 3 {
		resp, err := harness.Client().Head(s.FLV(p.room))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "video/x-flv" {
			t.Errorf("HTTP %d, %q", resp.StatusCode, resp.Header)
		}
	}
	for _, player := range s.WithT(t).Stat().Players {
		if player.Key == "live/"+p.room {
			t.Error("HEAD is counted as a player")
		}
	}
}

func notCompressed(t *testing.T, s *target) {
	for _, target := range []string{"/live/bystander.flv", "/live/bystander.m3u8"} {
		p := s.dialTo(t, "hls_addr")
		p.send([]byte(get(target, "Accept-Encoding: gzip, br, deflate, *")))
		p.NetConn.SetReadDeadline(time.Now().Add(longTimeout)) // a playlist waits for the first segment
		resp, err := http.ReadResponse(p.Reader.R, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: HTTP %d, %q", target, resp.StatusCode, resp.Header)
		}
	}
}

func pipelined(t *testing.T, s *target) {
	p := s.dialTo(t, "httpflv_addr")
	const n = 100
	p.send([]byte(strings.Repeat(get("/live/nobody.flv"), n)))
	for range n {
		resp := p.response(http.MethodGet)
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 404 {
			t.Fatalf("HTTP %d", resp.StatusCode)
		}
	}
}

// mediaPlaylist returns a room's media playlist, and the base URL of its segments.
func mediaPlaylist(t *testing.T, s *target, room, query string) (master, media, base string) {
	t.Helper()
	master = string(harness.Get(t, s.HLS(room)+query))
	list := uris(master)
	if list == nil {
		t.Fatalf("no media playlist in %q", master)
	}
	base = "http://" + s.Addr("hls_addr") + "/live/"
	return master, string(harness.Get(t, base+list[0])), base + room + "/"
}

// uris returns the lines of a playlist that are URIs.
func uris(playlist string) (list []string) {
	for line := range strings.Lines(playlist) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

// startHLSSession requests the bystander's multivariant playlist, whose URLs hold the session, and
// then the first of them. It returns the status of the second response, or 0 if it got no playlist.
func startHLSSession(nc net.Conn, headers ...string) int {
	nc.SetDeadline(time.Now().Add(longTimeout))
	fmt.Fprintf(nc, "GET /live/bystander.m3u8 HTTP/1.1\r\n%s\r\n\r\n", strings.Join(headers, "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		return 0
	}
	body, _ := io.ReadAll(resp.Body)
	list := uris(string(body))
	if list == nil {
		return 0
	}
	return getStatus(nc, "/live/"+list[0], headers...)
}

func segmentsOfOtherRoom(t *testing.T, s *target) {
	_, media, base := mediaPlaylist(t, s, "bystander", "")
	other := s.dial(t)
	other.advance(publishing)
	list := uris(media)
	if list == nil {
		t.Fatalf("no segment in %q", media)
	}
	harness.Get(t, base+list[0])
	elsewhere := strings.Replace(base, "bystander", other.room, 1) + list[0]
	resp, err := harness.Client().Get(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("%s: HTTP %d, want 404", elsewhere, resp.StatusCode)
	}
}

func queryInPlaylist(t *testing.T, s *target) {
	for _, query := range []string{"?token=x%0A%23EXTINF:666", "?s=x%0A%23EXTINF:666", "?x%0A%23EXTINF:666=y",
		"?hevc=%0D%0A%23EXTINF:666"} {
		master, media, _ := mediaPlaylist(t, s, "bystander", query)
		if strings.Contains(master+media, "EXTINF:666") {
			t.Errorf("%s gets into the playlist:\n%s%s", query, master, media)
		}
	}
}

// getStatus sends a GET of path, with Host "h" if there are no headers, and reads the start of the
// response. It returns the status, or 0 if the connection was closed.
func getStatus(nc net.Conn, path string, headers ...string) int {
	if headers == nil {
		headers = []string{"Host: h"}
	}
	nc.SetDeadline(time.Now().Add(longTimeout))
	fmt.Fprintf(nc, "GET %s HTTP/1.1\r\n%s\r\n\r\n", path, strings.Join(headers, "\r\n"))
	head := make([]byte, 12)
	if _, err := io.ReadFull(nc, head); err != nil {
		return 0
	}
	status, _ := strconv.Atoi(string(head[9:]))
	return status
}
