package hls

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"livego/internal/proto/http1"
	"livego/internal/stream"
)

// reloads is how many requests wait for one part in BenchmarkReload. The two processes need a file
// descriptor each for every request.
const reloads = 10_000

// reloadAddr is the environment variable with the address that BenchmarkReloadClient connects to.
const reloadAddr = "LIVEGO_TEST_RELOAD"

// BenchmarkReload blocks requests for a playlist on as many sockets. It measures the time from
// publishing the frame that completes their part until another process has the last byte of each
// response. The floor is the cost of the kernel: the same bytes, written to as many sockets by one
// thread per processor and read in the same way, in the same run.
//
//	go test ./internal/edge/hls -run '^$' -bench 'Reload$' -benchtime 20x
func BenchmarkReload(b *testing.B) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < reloads+100 {
		b.Skipf("needs %d open files (ulimit -n)", reloads+100)
	}
	s := newReloadServer(b)

	l := startReloads(b, s.addr)
	size := 0
	var woken []arrivals
	for range b.N {
		s.waiting.Add(reloads)
		l.send(b, "GET %s HTTP/1.1|Host: h|Accept-Encoding: gzip||", s.nextPart())
		s.waiting.Wait()
		begin := time.Now()
		s.write(s.movie, 200*ms)
		a := l.await(b, begin)
		size = a.size
		woken = append(woken, a)
	}
	l.end(b)
	report(b, "", woken)
	b.ReportMetric(float64(size), "bytes")

	least := reloadFloor(b, size)
	report(b, "floor-", least)
	b.ReportMetric(median(woken, arrivals.late)/median(least, arrivals.late), "p99/floor")
	b.ReportMetric(0, "ns/op") // meaningless here
}

// A reloadServer serves a stream on a socket. Each reload that waits there decrements waiting.
type reloadServer struct {
	*testServer
	addr    net.Addr
	waiting sync.WaitGroup
}

// newReloadServer starts a server whose stream makes parts as they come.
func newReloadServer(t testing.TB) *reloadServer {
	t.Helper()
	s := &reloadServer{testServer: newLowLatencyServer(t, stream.Options{})}
	s.movie = s.publish(movie)
	s.write(s.movie, 4240*ms)
	s.get("/live/movie.m3u8")
	s.get("/live/movie/index.m3u8?_HLS_msn=102&_HLS_part=0") // from now on parts are made as they come
	srv := http1.New(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "_HLS_msn") {
			r = r.WithContext(&waitCtx{Context: r.Context(), wg: &s.waiting})
		}
		serveBelow(s.srv, w, r)
	})}, http1.Options{StallTimeout: time.Minute})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr()
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		srv.Close()
		served.Wait()
	})
	return s
}

// serveBelow calls h with as much stack in use as below the handlers that the server has in front of it,
// of packages httpx and viewerhttp.
//
//go:noinline
func serveBelow(h http.Handler, w http.ResponseWriter, r *http.Request) {
	var used [416]byte
	copy(used[:], r.RequestURI)
	h.ServeHTTP(w, r)
	if used[len(used)-1] > 0 {
		panic("a URL this long is not requested here")
	}
}

// nextPart returns the URL of a reload that waits for the next part, as a delta update.
func (c *testServer) nextPart() string {
	const url = "/live/movie/index.m3u8"
	body := c.get(url)
	_, sequence, _ := strings.Cut(body, "#EXT-X-MEDIA-SEQUENCE:")
	sequence, _, _ = strings.Cut(sequence, "\n")
	first, err := strconv.Atoi(sequence)
	if err != nil {
		c.t.Fatal(err)
	}
	hint := body[strings.LastIndex(body, "URI=")+len(`URI="`):]
	part := strings.Split(hint, ".")[1]
	return fmt.Sprintf("%s?_HLS_msn=%d&_HLS_part=%s&_HLS_skip=YES", url, first+strings.Count(body, "#EXTINF"), part)
}

// reloadFloor writes size bytes to as many sockets, by plain system calls.
func reloadFloor(b *testing.B, size int) (all []arrivals) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	l := startReloads(b, ln.Addr())
	var conns []net.Conn
	fds := make([]int, reloads)
	for i := range fds {
		nc, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, nc)
		raw, err := nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			b.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			b.Fatal(err)
		}
	}
	head := "HTTP/1.1 200 OK\r\nContent-Length: "
	body := fmt.Appendf(nil, "%s%04d\r\n\r\n", head, size-len(head)-len("1234\r\n\r\n"))
	body = append(body, make([]byte, max(0, size-len(body)))...)
	for range b.N {
		l.send(b, "")
		begin := time.Now()
		var half sync.WaitGroup
		for part := range slices.Chunk(fds, reloads/2) {
			half.Go(func() {
				for _, fd := range part {
					if n, err := syscall.Write(fd, body); n < len(body) {
						b.Errorf("wrote %d: %v", n, err)
					}
				}
			})
		}
		half.Wait()
		all = append(all, l.await(b, begin))
	}
	l.end(b)
	for _, nc := range conns {
		nc.Close()
	}
	return all
}

// arrivals are the times from publishing a part until its responses were complete.
type arrivals struct {
	mid, p99, last time.Duration
	size           int // of a response, in bytes
}

func (a arrivals) half() time.Duration { return a.mid }
func (a arrivals) late() time.Duration { return a.p99 }
func (a arrivals) end() time.Duration  { return a.last }

// median returns the median of a time, in milliseconds.
func median(all []arrivals, of func(arrivals) time.Duration) float64 {
	times := make([]time.Duration, len(all))
	for i, a := range all {
		times[i] = of(a)
	}
	slices.Sort(times)
	return float64(times[len(times)/2]) / float64(ms)
}

func report(b *testing.B, name string, all []arrivals) {
	b.ReportMetric(median(all, arrivals.half), name+"p50-ms")
	b.ReportMetric(median(all, arrivals.late), name+"p99-ms")
	b.ReportMetric(median(all, arrivals.end), name+"last-ms")
}

// A reloadProcess is the connection to the process that sends the requests.
type reloadProcess struct {
	cmd  *exec.Cmd
	to   *os.File
	from *bufio.Reader
	pipe *os.File
}

func startReloads(b *testing.B, to net.Addr) *reloadProcess {
	b.Helper()
	orders, order, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	results, result, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkReloadClient$",
		"-test.benchtime=1x")
	cmd.Env = append(os.Environ(), reloadAddr+"="+to.String())
	cmd.ExtraFiles = []*os.File{orders, result}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	orders.Close()
	result.Close()
	return &reloadProcess{cmd, order, bufio.NewReader(results), results}
}

// send has a request sent on every socket; none if it is empty.
func (l *reloadProcess) send(b *testing.B, format string, args ...any) {
	b.Helper()
	fmt.Fprintf(l.to, format+"\n", args...)
	if line, err := l.from.ReadString('\n'); line != "sent\n" {
		b.Fatal(line, err)
	}
}

// await returns when the responses were complete, relative to begin.
func (l *reloadProcess) await(b *testing.B, begin time.Time) (a arrivals) {
	b.Helper()
	var times [3]int64
	if _, err := fmt.Fscanf(l.from, "%d %d %d %d\n", &times[0], &times[1], &times[2], &a.size); err != nil {
		b.Fatal(err)
	}
	after := func(t int64) time.Duration { return time.Duration(t - begin.UnixNano()) }
	a.mid, a.p99, a.last = after(times[0]), after(times[1]), after(times[2])
	return a
}

func (l *reloadProcess) end(b *testing.B) {
	b.Helper()
	l.to.Close()
	if err := l.cmd.Wait(); err != nil {
		b.Error(err)
	}
	l.pipe.Close()
}

// BenchmarkReloadClient is the other process of BenchmarkReload, and measures nothing by itself.
func BenchmarkReloadClient(b *testing.B) {
	addr, err := net.ResolveTCPAddr("tcp", os.Getenv(reloadAddr))
	if err != nil {
		b.Skip("part of BenchmarkReload")
	}
	crowd, err := connectReloads(addr)
	if err != nil {
		b.Fatal(err)
	}
	orders, results := bufio.NewReader(os.NewFile(3, "orders")), os.NewFile(4, "results")
	for {
		line, err := orders.ReadString('\n')
		if err != nil {
			return
		}
		if err := crowd.send(strings.ReplaceAll(strings.TrimSpace(line), "|", "\r\n")); err != nil {
			b.Fatal(err)
		}
		fmt.Fprintln(results, "sent")
		times, size, err := crowd.read()
		if err != nil {
			b.Fatal(err)
		}
		slices.Sort(times)
		fmt.Fprintln(results, times[reloads/2], times[reloads*99/100], times[reloads-1], size)
	}
}

// reloadClients are many sockets that one thread reads.
type reloadClients struct {
	epoll int
	fds   []int
	index map[int32]int
	got   []int // bytes received of each response
}

func connectReloads(to *net.TCPAddr) (*reloadClients, error) {
	c := &reloadClients{index: map[int32]int{}, got: make([]int, reloads)}
	var err error
	if c.epoll, err = syscall.EpollCreate1(0); err != nil {
		return nil, err
	}
	for i := range reloads {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			return nil, err
		}
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
			return nil, err
		}
		if err := syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, fd,
			&syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, err
		}
		c.fds, c.index[int32(fd)] = append(c.fds, fd), i
	}
	return c, nil
}

func (c *reloadClients) send(request string) error {
	clear(c.got)
	for _, fd := range c.fds {
		if request == "" {
			return nil
		}
		if _, err := syscall.Write(fd, []byte(request)); err != nil {
			return err
		}
	}
	return nil
}

// read returns when each response was complete, and their size: all are equal.
func (c *reloadClients) read() (times []int64, size int, err error) {
	buf, events := make([]byte, 64<<10), make([]syscall.EpollEvent, 512)
	for len(times) < reloads {
		n, err := syscall.EpollWait(c.epoll, events, -1)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return nil, 0, err
		}
		for _, e := range events[:max(n, 0)] {
			n, err := syscall.Read(int(e.Fd), buf)
			if err != nil || n == 0 {
				return nil, 0, fmt.Errorf("read %d: %w", n, err)
			}
			i := c.index[e.Fd]
			if c.got[i] == 0 && !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200 ")) {
				return nil, 0, fmt.Errorf("answer %q", buf[:min(n, 100)])
			}
			if size == 0 {
				size = responseSize(buf[:n])
			}
			if c.got[i] += n; c.got[i] == size {
				times = append(times, time.Now().UnixNano())
			}
		}
	}
	return times, size, nil
}

// responseSize returns the size of the response that starts with b, including its header.
func responseSize(b []byte) int {
	head, _, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	_, length, _ := bytes.Cut(head, []byte("Content-Length: "))
	length, _, _ = bytes.Cut(length, []byte("\r\n"))
	n, _ := strconv.Atoi(string(length))
	return len(head) + len("\r\n\r\n") + n
}

// TestHeldRequestStack holds reloads of viewers with sessions that have fetched parts. The stack of
// nearly all is 4 kB, and of none of them more than 8 kB. perf with a probe on runtime.morestack shows
// which calls need more.
func TestHeldRequestStack(t *testing.T) {
	if slowFactor > 4 {
		t.Skip("the race detector needs larger stacks")
	}
	const viewers, rounds = 300, 4
	s := newReloadServer(t)

	stacks := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.StackInuse)
	}
	before := stacks()
	var conns []*viewerConn
	for range viewers {
		conn, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := &viewerConn{conn, bufio.NewReader(conn), s.fmp4PlaylistURL()}
		c.get(t, c.playlist)
		conns = append(conns, c)
	}
	for range rounds {
		_, part, _ := strings.Cut(s.nextPart(), "?")
		s.waiting.Add(viewers)
		for _, c := range conns {
			c.request(c.playlist + "&" + part)
		}
		s.waiting.Wait()
		if got := (stacks() - before) / viewers; got > 6<<10 {
			t.Errorf("%d bytes of stack for each held request", got)
		}
		s.write(s.movie, 200*ms)
		for _, c := range conns {
			body := c.response(t)
			parts := strings.Split(body, "#EXT-X-PART:")
			_, uri, _ := strings.Cut(parts[len(parts)-1], `URI="`)
			uri, _, _ = strings.Cut(uri, `"`)
			c.get(t, "/live/movie/"+uri)
		}
	}
	s.movie.End(stream.Clean)
}

// A viewerConn is the connection of a viewer.
type viewerConn struct {
	net.Conn
	buf      *bufio.Reader
	playlist string // its URL
}

func (c *viewerConn) request(url string) { fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", url) }

func (c *viewerConn) response(t *testing.T) string {
	t.Helper()
	r, err := http.ReadResponse(c.buf, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r.Status, err, string(body))
	}
	return string(body)
}

func (c *viewerConn) get(t *testing.T, url string) string {
	t.Helper()
	c.request(url)
	return c.response(t)
}
