package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options configures a server under test. The zero value is a server on free ports with a data
// directory of its own.
type Options struct {
	Binary       string   // "" for that of the tests
	NoRace       bool     // the build without the race detector, as people run it
	DataDir      string   // "" for a new one
	Dir          string   // working directory; "" for an empty one, without livego.yaml and statics
	Flags        []string // after those that Start sets, which they override
	Env          []string // "LIVEGO_X=y"
	NoWait       bool     // do not wait until it is ready
	MaxOpenFiles int      // limit of file descriptors; 0 for that of this process
	// Sockets are passed to the server as systemd does, and stay open: "rtmp_addr" and so on.
	Sockets map[string]*net.TCPListener
}

// A Server is a livego process under test.
type Server struct {
	*Process
	DataDir string

	options    Options
	addr       map[string]string // by flag
	checkAtEnd bool              // whether the end of the test stops it and checks its log
}

// Start starts livego and waits until it is ready. The end of the test stops it by SIGTERM: it must
// exit with code 0 in time, and must have reported no panic and no data race.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{DataDir: o.DataDir, options: o, addr: map[string]string{}, checkAtEnd: true}
	if s.DataDir == "" {
		s.DataDir = t.TempDir()
	}
	listeners := []string{"rtmp_addr", "httpflv_addr", "hls_addr", "api_addr", "rtmps_addr", "https_addr"}
	args := []string{"--data_dir=" + s.DataDir}
	for i, port := range FreePorts(t, len(listeners)) {
		s.addr[listeners[i]] = fmt.Sprintf("127.0.0.1:%d", port)
		args = append(args, "--"+listeners[i]+"="+s.addr[listeners[i]])
	}
	binary := o.Binary
	if binary == "" {
		binary = Binary(t, o.NoRace)
	}
	cmd := exec.Command(binary, append(args, o.Flags...)...)
	if o.MaxOpenFiles > 0 {
		Need(t, "prlimit")
		cmd = exec.Command("prlimit", append([]string{fmt.Sprintf("--nofile=%d:%d", o.MaxOpenFiles, o.MaxOpenFiles)},
			cmd.Args...)...)
	}
	if len(o.Sockets) > 0 {
		cmd = s.passSockets(t, cmd, o.Sockets)
	}
	if cmd.Dir = o.Dir; o.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	cmd.Env = append(cmd.Env, os.Environ()...)
	cmd.Env = append(cmd.Env, o.Env...)
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0")
	s.Process = startCommand(t, cmd)
	t.Cleanup(func() {
		if s.checkAtEnd {
			s.Stop()
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s%s", s.Stdout(), s.Stderr())
		}
	})
	if !o.NoWait {
		s.AwaitReady()
	}
	return s
}

// passSockets returns cmd with the variables and files of sd_listen_fds(3), and sets the addresses of
// the sockets.
func (s *Server) passSockets(t testing.TB, cmd *exec.Cmd, sockets map[string]*net.TCPListener) *exec.Cmd {
	t.Helper()
	cmd = exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, cmd.Args...)...)
	var names []string
	for addr, l := range sockets {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		s.SetAddr(addr, l.Addr().String())
		names, cmd.ExtraFiles = append(names, strings.TrimSuffix(addr, "_addr")), append(cmd.ExtraFiles, f)
	}
	cmd.Env = []string{fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES=" + strings.Join(names, ":")}
	return cmd
}

// WithT returns the same server for a subtest, which then fails in the place of its parent.
func (s *Server) WithT(t testing.TB) *Server {
	server, process := *s, *s.Process
	process.t = t
	server.Process = &process
	return &server
}

// Livego starts livego with these arguments in dir. The end of the test kills it if it still runs.
func Livego(t testing.TB, dir string, env []string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(Binary(t, true), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	return startCommand(t, cmd)
}

// StartAgain starts a server that was killed, with the same data and flags, on other ports unless a flag
// sets them.
func (s *Server) StartAgain() *Server {
	s.t.Helper()
	o := s.options
	o.DataDir = s.DataDir
	return Start(s.t, o)
}

// AwaitReady waits until the server answers /readyz with 200.
func (s *Server) AwaitReady() {
	s.t.Helper()
	Eventually(s.t, 20*time.Second, "server ready", func() error {
		select {
		case <-s.Done():
			s.checkAtEnd = false
			s.t.Fatalf("server ended with code %d:\n%s%s", s.cmd.ProcessState.ExitCode(), s.Stdout(), s.Stderr())
		default:
		}
		_, err := get(s.API("/readyz"), http.StatusOK)
		return err
	})
}

// Stop sends SIGTERM, and checks the end as WaitStopped does.
func (s *Server) Stop() {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	s.WaitStopped()
}

// WaitStopped checks that the server, which was sent SIGTERM, exits with code 0 within seconds and
// has reported no panic and no data race.
func (s *Server) WaitStopped() {
	s.t.Helper()
	s.checkAtEnd = false
	code := s.Wait(15 * time.Second)
	log := s.Stdout() + s.Stderr()
	for _, bad := range []string{"DATA RACE", "panic:", "goroutine 1 [", "fatal error:"} {
		if strings.Contains(log, bad) {
			s.t.Errorf("server reported %q:\n%s", bad, log)
			return
		}
	}
	if code != 0 {
		s.t.Errorf("server ended with code %d after SIGTERM:\n%s", code, log)
	}
}

// WaitExit waits until a server that was started with NoWait has exited by itself, and returns its
// exit code.
func (s *Server) WaitExit(limit time.Duration) int {
	s.t.Helper()
	s.checkAtEnd = false
	return s.Wait(limit)
}

// Kill ends the server with SIGKILL, as a power failure would.
func (s *Server) Kill() {
	s.t.Helper()
	s.checkAtEnd = false
	s.Signal(syscall.SIGKILL)
	s.Wait(5 * time.Second)
}

// AwaitLog waits until the server's log contains what. An event is logged a moment after it
// happens.
func (s *Server) AwaitLog(limit time.Duration, what string) {
	s.t.Helper()
	s.AwaitStderr(limit, func(log string) bool { return strings.Contains(log, what) })
}

// Addr returns the address of the listener that a flag sets, such as "rtmp_addr".
func (s *Server) Addr(flag string) string { return s.addr[flag] }

// SetAddr sets the address of the listener of a flag, for a flag in Options.Flags that overrides
// it.
func (s *Server) SetAddr(flag, addr string) { s.addr[flag] = addr }

// RTMP returns the RTMP URL of a room or a stream key in the app live.
func (s *Server) RTMP(name string) string { return "rtmp://" + s.addr["rtmp_addr"] + "/live/" + name }

// FLV returns the HTTP-FLV URL of a room.
func (s *Server) FLV(room string) string {
	return "http://" + s.addr["httpflv_addr"] + "/live/" + room + ".flv"
}

// HLS returns the URL of a room's multivariant playlist.
func (s *Server) HLS(room string) string {
	return "http://" + s.addr["hls_addr"] + "/live/" + room + ".m3u8"
}

// Thumbnail returns the URL of a room's picture.
func (s *Server) Thumbnail(room string) string {
	return "http://" + s.addr["hls_addr"] + "/live/" + room + ".jpg"
}

// API returns the URL of a path on the operator's listener.
func (s *Server) API(path string) string { return "http://" + s.addr["api_addr"] + path }

// An Envelope is a reply of the operator's HTTP.
type Envelope struct {
	Status int             `json:"status"`
	Data   json.RawMessage `json:"data"`
}

// Text returns the data if it is a string, otherwise "".
func (e Envelope) Text() string {
	var s string
	_ = json.Unmarshal(e.Data, &s)
	return s
}

// Call sends a GET request to the operator's HTTP, and checks that the envelope repeats the HTTP
// status.
func (s *Server) Call(path string) Envelope {
	s.t.Helper()
	resp, err := Client().Get(s.API(path))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var e Envelope
	if err := json.Unmarshal(body, &e); err != nil || e.Status != resp.StatusCode {
		s.t.Fatalf("GET %s: HTTP %d with %q, want an envelope of the same status", path, resp.StatusCode, body)
	}
	return e
}

// Key returns the default key of a room, and creates the room if there is none.
func (s *Server) Key(room string) string {
	s.t.Helper()
	e := s.Call("/control/get?room=" + url.QueryEscape(room))
	if e.Status != 200 || len(e.Text()) != 48 {
		s.t.Fatalf("/control/get?room=%s: %d %s, want a key of 48 characters", room, e.Status, e.Data)
	}
	return e.Text()
}

// BackupKey creates a stream key with the role backup, and returns it.
func (s *Server) BackupKey(room string) string {
	s.t.Helper()
	body := fmt.Sprintf(`{"room":%q,"label":"backup","role":"backup"}`, room)
	resp, err := Client().Post(s.API("/api/v1/keys"), "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var made struct{ Key string }
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || len(made.Key) != 48 {
		s.t.Fatalf("POST /api/v1/keys %s: HTTP %d, %+v, %v", body, resp.StatusCode, made, err)
	}
	return made.Key
}

// Push starts ffmpeg, which publishes file to a room in real time. It uses the room's default key.
// The arguments in more precede the input.
func (s *Server) Push(file, room string, more ...string) *Process {
	s.t.Helper()
	return s.PushTo(file, s.RTMP(s.Key(room)), more...)
}

// PushTo is Push to a URL.
func (s *Server) PushTo(file, url string, more ...string) *Process {
	s.t.Helper()
	return FFmpeg(s.t, append(append([]string{"-re"}, more...), "-i", file, "-c", "copy", "-f", "flv", url)...)
}

// Stat is the data of /stat/livestat.
type Stat struct {
	Publishers []StatEntry `json:"publishers"`
	Players    []StatEntry `json:"players"`
}

// A StatEntry is a publisher or a player in Stat.
type StatEntry struct {
	Key             string  `json:"key"`
	URL             string  `json:"url"`
	StreamID        uint64  `json:"stream_id"`
	VideoTotalBytes uint64  `json:"video_total_bytes"`
	VideoSpeed      float64 `json:"video_speed"`
	AudioTotalBytes uint64  `json:"audio_total_bytes"`
	AudioSpeed      float64 `json:"audio_speed"`
	Skips           uint64  `json:"skips"`
}

// Stat returns the statistics of everything that is live.
func (s *Server) Stat() Stat {
	s.t.Helper()
	e := s.Call("/stat/livestat")
	var st Stat
	if err := json.Unmarshal(e.Data, &st); err != nil {
		s.t.Fatalf("/stat/livestat: %v: %s", err, e.Data)
	}
	return st
}

// AwaitLive waits until the room is published.
func (s *Server) AwaitLive(room string) {
	s.t.Helper()
	Eventually(s.t, 15*time.Second, "live/"+room+" published", func() error {
		for _, p := range s.Stat().Publishers {
			if p.Key == "live/"+room {
				return nil
			}
		}
		return fmt.Errorf("not among the publishers")
	})
}

// Client returns an HTTP client that keeps no connection, and waits up to 20 seconds for the
// headers of a response.
func Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 20 * time.Second}}
}

func get(url string, status int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("GET %s: HTTP %d, want %d: %.200s", url, resp.StatusCode, status, body)
	}
	return body, err
}

// Get fetches a URL and returns the body. The status must be 200.
func Get(t testing.TB, url string) []byte {
	t.Helper()
	body, err := get(url, http.StatusOK)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// Eventually calls f until it returns nil, and fails the test with the last error after limit. It
// is for state that does not announce its changes, such as that of another process.
func Eventually(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	watch := StartStopwatch()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if watch.Exceeded(limit) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-again.C
	}
}
