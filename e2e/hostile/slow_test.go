package hostile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
)

// kernelMemory returns how many unsent bytes the kernel holds for the sockets of a port.
func kernelMemory(t *testing.T, addr string) (bytes, sockets int) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ss", "-tamnH", "sport = :"+port).CombinedOutput()
	if err != nil {
		t.Fatalf("ss: %v: %s", err, out)
	}
	for _, m := range regexp.MustCompile(`skmem:\([^)]*,w(\d+),`).FindAllStringSubmatch(string(out), -1) {
		n, _ := strconv.Atoi(m[1]) // only digits
		bytes += n
		sockets++
	}
	return bytes, sockets
}

// TestSlowReaders has clients read a segment of megabytes at a few bytes a second. The kernel holds
// little for each, they are ended after answer_timeout, and then nothing is held for them any more.
// A client that needs a third of that time is served.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	harness.Need(t, "ss")
	const (
		limit = 4 * time.Second
		each  = 512 << 10 // what the kernel may hold for one, with its overhead
	)
	clients := 40
	if harness.Long() {
		clients = 300
	}
	cert, key, _ := harness.Certificate(t)
	s := start(t, "--enable_https=true", "--rtmps_cert="+cert, "--rtmps_key="+key, "--hls_segment=1s",
		fmt.Sprint("--answer_timeout=", limit), "--write_timeout=10s")
	bench := harness.Livego(t, t.TempDir(), nil, "bench", "--publish", s.RTMP(s.streamKey(t, "big")), "--bitrate", "48000",
		"--gop", "1s",
		"--play", s.FLV("big"), "-n", "1", "--settle", "1s", "-d", "10m")
	t.Cleanup(bench.Kill) // after the parallel subtests
	s.WithT(t).AwaitLive("big")

	// newest returns the path of the newest segment: old ones are gone.
	newest := func(t *testing.T) (path string) {
		t.Helper()
		harness.Eventually(t, longTimeout, "a segment", func() error {
			_, media, _ := mediaPlaylist(t, s, "big", "")
			for _, uri := range uris(media) {
				path = "/live/big/" + uri
			}
			if path == "" {
				return errors.New(media)
			}
			return nil
		})
		return path
	}
	if body := harness.Get(t, "http://"+s.Addr("hls_addr")+newest(t)); len(body) < 5<<20 {
		t.Fatalf("the segment has %d bytes, too few for this test", len(body))
	}

	tlsConfig := func(proto string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}}
	}
	for name, c := range map[string]struct {
		flag string
		dial func(addr string) (net.Conn, error)
	}{
		"HTTP": {"hls_addr", func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }},
		"TLS":  {"https_addr", func(addr string) (net.Conn, error) { return tls.Dial("tcp", addr, tlsConfig("http/1.1")) }},
	} {
		t.Run("slow readers by "+name, func(t *testing.T) {
			t.Parallel()
			addr, segment := s.Addr(c.flag), newest(t)
			began := time.Now()
			var ended sync.WaitGroup
			for range clients {
				nc, err := c.dial(addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				io.WriteString(nc, get(segment))
				ended.Go(func() {
					tick := time.NewTicker(300 * time.Millisecond)
					defer tick.Stop()
					for range tick.C {
						if _, err := io.ReadFull(nc, make([]byte, 1<<10)); err != nil {
							return
						}
					}
				})
			}
			most := 0
			for most == 0 || time.Since(began) < limit*3/4 {
				now, sockets := kernelMemory(t, addr)
				if sockets < clients {
					t.Fatalf("%d of %d connections are open after %v", sockets, clients, time.Since(began))
				}
				most = max(most, now)
			}
			t.Logf("the kernel holds %d KiB for %d clients", most>>10, clients)
			if most > clients*each {
				t.Errorf("the kernel holds %d KiB for %d clients, want at most %d each", most>>10, clients, each>>10)
			}
			harness.Eventually(t, limit+longTimeout, "the clients are ended", func() error {
				if now, sockets := kernelMemory(t, addr); sockets > 5 { // the listener, and the other subtests
					return fmt.Errorf("%d sockets with %d bytes", sockets, now)
				}
				return nil
			})
			if took := time.Since(began); took < limit {
				t.Errorf("the clients are ended after %v", took)
			}
		})
	}
	t.Run("a slow reader by HTTP/2", func(t *testing.T) {
		t.Parallel()
		client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: tlsConfig("h2")}}
		defer client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(t.Context(), limit+longTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.Addr("https_addr")+newest(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%+v %v", resp, err)
		}
		defer resp.Body.Close()
		began := time.Now()
		tick := time.NewTicker(limit / 20)
		defer tick.Stop()
		for err == nil && time.Since(began) < limit+3*time.Second {
			<-tick.C
			_, err = io.ReadFull(resp.Body, make([]byte, 1<<10))
		}
		if err != nil {
			t.Fatalf("the buffered response cannot be read: %v", err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err == nil || ctx.Err() != nil {
			t.Errorf("%d more bytes came, %v", n, err)
		}
	})
	t.Run("a reader within the time limit", func(t *testing.T) {
		t.Parallel()
		segment := newest(t)
		body := harness.Get(t, "http://"+s.Addr("hls_addr")+segment)
		nc := s.dialRaw(t, "127.0.0.2", "hls_addr", get(segment))
		tick := time.NewTicker(limit / 60)
		defer tick.Stop()
		for got := 0; got < len(body); <-tick.C {
			nc.SetReadDeadline(time.Now().Add(longTimeout))
			n, err := io.ReadFull(nc, make([]byte, min(len(body)/20, len(body)-got)))
			if got += n; err != nil {
				t.Fatalf("%d of %d bytes: %v", got, len(body), err)
			}
		}
	})
}
