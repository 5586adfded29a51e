package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"livego/internal/tools/bench"
)

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

// TestBench measures a real server with the real command.
func TestBench(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the server is stopped by a signal")
	}
	rtmp, flv := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	server, log := startLivego(t, "--rtmp_addr="+rtmp, "--httpflv_addr="+flv, "--rtmp_noauth")
	for log.Scan() && !strings.Contains(log.Text(), "ready") {
	}
	ended := make(chan struct{})
	go func() { // the server must not wait for a reader
		defer close(ended)
		for log.Scan() {
		}
	}()
	defer func() {
		server.Process.Signal(os.Interrupt)
		<-ended
		server.Wait()
	}()
	var stdout, stderr strings.Builder
	code := run([]string{
		"bench", "--publish=rtmp://" + rtmp + "/live/movie{n}", "--play=rtmp://" + rtmp + "/live/movie{n}",
		"--play=http://" + flv + "/live/movie{n}.flv",
		"--streams=2", "--viewers=20", "--bitrate=500", "--join=500ms", "--duration=1s", "--check=1", "--json",
	}, nil, &stdout, &stderr)
	var r bench.Result
	if err := json.Unmarshal([]byte(stdout.String()), &r); err != nil {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, &stdout, &stderr)
	}
	d := r.Delivery
	if r.Viewers.Joined != 20 || r.Viewers.Lost != 0 || d.Share != 1 || d.Corrupt+d.Missing+d.Repeats != 0 ||
		d.Checked == 0 || r.Stream.Streams != 2 {
		t.Errorf("exit code %d\n%s%s", code, &stdout, &stderr)
	}
	if runtime.GOOS == "linux" && (r.Server == nil || !slices.Equal(r.Server.PIDs, []int{server.Process.Pid})) {
		t.Errorf("watched %+v, want process %d", r.Server, server.Process.Pid)
	}
	if (code == 0) != (len(r.Failures()) == 0) {
		t.Errorf("exit code %d with %q", code, r.Failures())
	}
	// The number of viewers in the first report depends on the machine.
	joining := regexp.MustCompile(`(?m)^joining, \d+ of 20 viewers$`)
	if !joining.MatchString(stderr.String()) || !strings.Contains(stderr.String(), "\nmeasuring, 20 of 20 viewers\n") {
		t.Errorf("progress:\n%s", &stderr)
	}
}

func TestBenchOptions(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if room := r.FormValue("room"); room != "bad" {
			fmt.Fprintf(w, `{"status":200,"data":"key-of-%s"}`, room)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"status":400,"data":"a bad name"}`)
	}))
	defer api.Close()
	base := benchCmd{API: api.URL, Room: "bench", Viewers: 1, Streams: 1, Duration: time.Second, Proto: []string{"rtmp"}}
	for _, c := range []struct {
		name          string
		change        func(*benchCmd)
		publish, play string
	}{
		{"default", func(*benchCmd) {}, "rtmp://127.0.0.1:1935/live/key-of-bench", "rtmp://127.0.0.1:1935/live/bench"},
		{"protocols", func(c *benchCmd) { c.Proto = []string{"flv", "ws", "hls"} }, "rtmp://127.0.0.1:1935/live/key-of-bench",
			"http://127.0.0.1:7001/live/bench.flv ws://127.0.0.1:7001/live/bench.flv http://127.0.0.1:7002/live/bench.m3u8"},
		{"TLS", func(c *benchCmd) { c.Proto = []string{"rtmps", "https-flv", "wss", "https-hls", "https-llhls"} },
			"rtmp://127.0.0.1:1935/live/key-of-bench",
			"rtmps://127.0.0.1:1936/live/bench https://127.0.0.1:7443/live/bench.flv wss://127.0.0.1:7443/live/bench.flv " +
				"https://127.0.0.1:7443/live/bench.m3u8 llhls+https://127.0.0.1:7443/live/bench.m3u8"},
		{"streams", func(c *benchCmd) { c.Streams = 2 },
			"rtmp://127.0.0.1:1935/live/key-of-bench1 rtmp://127.0.0.1:1935/live/key-of-bench2",
			"rtmp://127.0.0.1:1935/live/bench1 rtmp://127.0.0.1:1935/live/bench2"},
		{"elsewhere", func(c *benchCmd) { c.Publish, c.Play = "rtmp://h/a/x", []string{"rtmp://h/a/x", "http://h/x.flv"} },
			"rtmp://h/a/x", "rtmp://h/a/x http://h/x.flv"},
		{"play only", func(c *benchCmd) { c.PlayOnly = true }, "", "rtmp://127.0.0.1:1935/live/bench"},
		{"refused", func(c *benchCmd) { c.Room = "bad" }, "get the stream key of room bad: server error: a bad name", ""},
		{"no livego", func(c *benchCmd) { c.API = "http://127.0.0.1:1" }, "cannot reach livego to get a stream key", ""},
		{"no viewers", func(c *benchCmd) { c.Viewers = 0 }, "--viewers, --streams and --duration must be positive", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := base
			c.change(&cmd)
			o, err := cmd.options(t.Context(), nil)
			if err != nil {
				if !strings.HasPrefix(err.Error(), c.publish) || c.play != "" {
					t.Error(err)
				}
				return
			}
			if publish, play := strings.Join(o.Publish, " "), strings.Join(o.Play, " "); publish != c.publish || play != c.play {
				t.Errorf("published to %s\nplayed at %s", publish, play)
			}
		})
	}
}
