package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/internal/cluster/peer"
	"livego/internal/cluster/replica"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/ops/httpx"
	"livego/internal/stream"
)

var movie = domain.Name{App: "live", Room: "movie"}

// A logBuffer is a log that tests read.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// A testNode is a node with a hub.
type testNode struct {
	*Node
	hub *stream.Hub
	log *logBuffer
}

// startNodes starts nodes with these IDs. The first owns all streams.
func startNodes(t testing.TB, ids ...string) (nodes []*testNode) {
	t.Helper()
	addresses := map[string]string{}
	for _, id := range ids {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses[id] = ln.Addr().String()
		nodes = append(nodes, startNode(t, ln, id, ids[0],
			func(id string) (string, bool) { a, ok := addresses[id]; return a, ok }))
	}
	return nodes
}

func startNode(t testing.TB, ln net.Listener, id, owner string,
	address func(string) (string, bool)) *testNode {
	n := &testNode{log: new(logBuffer)}
	log := slog.New(slog.NewTextHandler(n.log, nil)).With("at", id)
	n.hub = stream.NewHub(stream.Options{TrackWait: time.Second})
	n.Node = New(Options{
		Identity: peer.Identity{Node: id, Secrets: []string{"a secret of the cluster"}},
		Owner:    func(domain.Name) (string, bool) { return owner, owner != id }, Address: address, Hub: n.hub,
		ServeFile: func(w http.ResponseWriter, r *http.Request, name domain.Name, file string) {
			if file == "index.m3u8" && r.URL.RawQuery == "_HLS_msn=99" {
				httpx.WriteError(w, domain.Errorf(domain.Invalid, "too far ahead"))
				return
			}
			w.Header().Set("Content-Type", "video/mp4")
			w.Header().Set("ETag", `"an-etag"`)
			fmt.Fprintf(w, "%s of %s, %s", file, name, r.URL.RawQuery)
		},
		Watched:          n.hub.HasViewers,
		Source:           replica.SourceOptions{WriteTimeout: time.Second},
		Target:           func(domain.Name) time.Duration { return 0 },
		HandshakeTimeout: time.Minute,
		Server:           httpx.ServerOptions{HeaderTimeout: time.Minute, IdleTimeout: time.Minute, Log: log},
		Log:              log,
	}, Settings{Hold: 5 * time.Second, GOPs: 1})
	n.hub.SetOptions(stream.Options{TrackWait: time.Second, Search: n.Search})
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		if err := n.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	work.Go(func() { n.Run(ctx) })
	t.Cleanup(func() {
		n.hub.Close()
		stop()
		work.Wait()
	})
	return n
}

// publish publishes frames of the movie at n until stop is called: a video of one keyframe in ten.
func (n *testNode) publish(t testing.TB) (stop func()) {
	t.Helper()
	p, err := n.hub.Publish(t.Context(), movie, stream.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	track := &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000}
	var work sync.WaitGroup
	work.Go(func() {
		defer p.End(stream.Clean)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			f := &media.Frame{Track: track, Meta: &media.Meta{HasVideo: true}, DTS: time.Duration(i) * 40 * time.Millisecond,
				Arrived: time.Now(), Payload: fmt.Appendf(nil, "frame %d", i)}
			f.PTS = f.DTS
			if i%10 == 0 {
				f.RAP = media.Keyframe
			}
			if p.Write(f) != nil {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		work.Wait()
	})
}

// watch reads frames of the movie at n, and returns a hash by DTS.
func (n *testNode) watch(ctx context.Context, frames int, wait time.Duration) (map[time.Duration][32]byte, error) {
	sub, err := n.hub.Subscribe(ctx, movie, stream.SubscribeOptions{Wait: wait, GOPs: 1})
	if err != nil {
		return nil, err
	}
	defer sub.Leave()
	seen := map[time.Duration][32]byte{}
	var buf [64]*media.Frame
	for len(seen) < frames {
		k, err := sub.Next(ctx, buf[:])
		if err != nil {
			return seen, err
		}
		for _, f := range buf[:k] {
			seen[f.DTS] = sha256.Sum256(f.Payload)
		}
	}
	return seen, nil
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestManyViewersOpenOneReplica has many viewers arrive at once at a node that does not have the stream.
// All of them get the frames of the owner. When they have left, the replica is closed.
func TestManyViewersOpenOneReplica(t *testing.T) {
	viewers := 200
	if os.Getenv("TEST_LONG") != "" {
		viewers = 5000
	}
	nodes := startNodes(t, "a", "b")
	owner, other := nodes[0], nodes[1]
	stop := owner.publish(t)
	defer stop()
	want, err := owner.watch(t.Context(), 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	var mu sync.Mutex
	all := map[time.Duration][32]byte{}
	for i := range viewers {
		wait := time.Duration(0)
		if i%2 == 1 {
			wait = -1
		}
		work.Go(func() {
			got, err := other.watch(t.Context(), 20, wait)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for at, sum := range got {
				if before, ok := all[at]; ok && before != sum {
					t.Errorf("two frames at %v", at)
				}
				all[at] = sum
			}
		})
	}
	more, err := owner.watch(t.Context(), 60, 0)
	if err != nil {
		t.Fatal(err)
	}
	work.Wait()
	same := 0
	for _, m := range []map[time.Duration][32]byte{want, more} {
		for at, sum := range m {
			if got, ok := all[at]; ok {
				if same++; got != sum {
					t.Errorf("the frame at %v differs", at)
				}
			}
		}
	}
	if same == 0 {
		t.Error("no viewer of both nodes has seen the same frame")
	}
	if n := owner.log.count("replica connected"); n != 1 {
		t.Errorf("%d connections for %d viewers", n, viewers)
	}
	err = other.CheckPublish(movie)
	if domain.KindOf(err) != domain.Conflict || !strings.Contains(err.Error(), "node a") {
		t.Errorf("a publisher at a replica: %v", err)
	}
	if err := owner.CheckPublish(movie); err != nil {
		t.Error(err)
	}
	eventually(t, "the replica is closed", func() bool { return !other.hub.Has(movie) })
	eventually(t, "the owner has noticed", func() bool { return owner.log.count("replica disconnected") == 1 })
	if _, err := other.watch(t.Context(), 5, 0); err != nil {
		t.Errorf("a viewer after that: %v", err)
	}
}

// TestStreamThatIsNotLive has viewers of a stream that nobody publishes: some get the reason at once, one
// waits until it is published. Then it ends.
func TestStreamThatIsNotLive(t *testing.T) {
	nodes := startNodes(t, "a", "b")
	owner, other := nodes[0], nodes[1]
	var work sync.WaitGroup
	for range 50 {
		work.Go(func() {
			if _, err := other.watch(t.Context(), 1, 0); domain.KindOf(err) != domain.NotFound {
				t.Errorf("error %v, want not found", err)
			}
		})
	}
	work.Wait()
	ended := make(chan error, 1)
	var seen atomic.Int64
	go func() {
		got, err := other.watch(t.Context(), 1<<20, -1)
		seen.Store(int64(len(got)))
		ended <- err
	}()
	eventually(t, "it waits", func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		return other.rooms[movie] != nil && other.rooms[movie].waiting == 1
	})
	stop := owner.publish(t)
	eventually(t, "it watches", func() bool { return other.hub.HasViewers(movie) })
	stop()
	if err := <-ended; !errors.Is(err, io.EOF) || seen.Load() == 0 {
		t.Errorf("after %d frames: %v", seen.Load(), err)
	}
	eventually(t, "nothing is left", func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		return len(other.rooms) == 0
	})
	if n := other.log.count("level=WARN"); n != 0 {
		t.Errorf("%d warnings about a stream that is not live", n)
	}
}

// TestUnreachableOwner has many viewers of streams whose owner is away. They get an error that names no
// address, and one line is logged. When the owner is there, the next viewer gets the stream.
func TestUnreachableOwner(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := away.Addr().String()
	away.Close()
	n := startNode(t, ln, "b", "a", func(string) (string, bool) { return addr, true })
	for range 20 {
		_, err := n.watch(t.Context(), 1, 0)
		if domain.KindOf(err) != domain.Unavailable || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("error %v", err)
		}
	}
	if _, err := n.Fetch(t.Context(), movie, "1-0.m4s"); domain.KindOf(err) != domain.Unavailable ||
		strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("error %v of a file", err)
	}
	if lines := n.log.count("cannot replicate a stream"); lines != 1 {
		t.Errorf("%d lines in the log", lines)
	}
	back, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skip("another process has the port: ", err)
	}
	owner := startNode(t, back, "a", "a", func(string) (string, bool) { return "", false })
	defer owner.publish(t)()
	if _, err := n.watch(t.Context(), 5, -1); err != nil {
		t.Error(err)
	}
}

// TestLoop has two nodes of which each takes the other one for the owner.
func TestLoop(t *testing.T) {
	var listeners [2]net.Listener
	for i := range listeners {
		var err error
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	address := func(id string) (string, bool) { return listeners[id[0]-'a'].Addr().String(), true }
	a := startNode(t, listeners[0], "a", "b", address)
	startNode(t, listeners[1], "b", "a", address)
	if _, err := a.watch(t.Context(), 1, 0); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("error %v", err)
	}
	if a.log.count("belongs to node a, not to b") != 1 {
		t.Errorf("the log does not say why:\n%s", a.log.b.String())
	}
}

// TestFiles has a node ask the owner for files.
func TestFiles(t *testing.T) {
	nodes := startNodes(t, "a", "b")
	for range 3 {
		f, err := nodes[1].Fetch(t.Context(), movie, "1-0.m4s?a=b")
		if err != nil || f.Type != "video/mp4" || f.ETag != "an-etag" || string(f.Body) != "1-0.m4s of live/movie, a=b" {
			t.Errorf("%+v, %v", f, err)
		}
	}
	if _, err := nodes[1].Fetch(t.Context(), movie, "index.m3u8?_HLS_msn=99"); domain.KindOf(err) != domain.Invalid ||
		domain.Reason(err) != "too far ahead" {
		t.Errorf("error %v of a request that the owner refuses", err)
	}
	if _, err := nodes[0].Fetch(t.Context(), movie, "1-0.m4s"); err == nil {
		t.Error("the owner asks itself")
	}
}

// TestOwnerThatHangs has an owner that accepts connections and does not answer. Requests for its files leave room
// for those of another owner.
func TestOwnerThatHangs(t *testing.T) {
	nodes := startNodes(t, "a", "b")
	n := nodes[1]
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	address := n.opt.Address
	n.opt.Address = func(id string) (string, bool) {
		if id == "c" {
			return hangs.Addr().String(), true
		}
		return address(id)
	}
	n.opt.Owner = func(name domain.Name) (string, bool) {
		if name == movie {
			return "a", true
		}
		return "c", true
	}
	ctx, cancel := context.WithCancel(t.Context())
	other := domain.Name{App: "live", Room: "other"}
	var work sync.WaitGroup
	for i := range maxFetches {
		work.Go(func() { _, _ = n.Fetch(ctx, other, fmt.Sprintf("1-%d.m4s", i)) })
	}
	eventually(t, "all wait", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.fetching["c"] == maxFetches
	})
	if _, err := n.Fetch(ctx, other, "2-0.m4s"); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("error %v of one more", err)
	}
	if _, err := n.Fetch(ctx, movie, "1-0.m4s"); err != nil {
		t.Errorf("error %v of another owner", err)
	}
	cancel()
	work.Wait()
	if len(n.fetching) != 0 {
		t.Errorf("%v are left", n.fetching)
	}
}

// TestRequests sends requests to a node that it refuses.
func TestRequests(t *testing.T) {
	nodes := startNodes(t, "a", "b")
	defer nodes[0].publish(t)()
	for path, want := range map[string]int{
		"/replica/v1/live/movie?after=0,0": http.StatusBadRequest, // no upgrade
		"/replica/v1/live/movie?after=0":   http.StatusBadRequest,
		"/replica/v1/live/movie?after=x,0": http.StatusBadRequest,
		"/replica/v1/live/movie":           http.StatusBadRequest,
		"/replica/v1/live/..?after=0,0":    http.StatusTemporaryRedirect,
		"/replica/v1/li%20ve/m?after=0,0":  http.StatusBadRequest,
		"/replica/v1/live/other?after=0,0": http.StatusBadRequest,
		"/replica/v2/live/movie?after=0,0": http.StatusNotFound,
		"/api/v1/streams":                  http.StatusNotFound,
		"/" + strings.Repeat("a", 32<<10):  http.StatusRequestHeaderFieldsTooLarge,
	} {
		resp, err := nodes[1].client.Get("https://a" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%.40s: HTTP %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// TestNodeThatStalls has a node that opens a replica and reads nothing. The owner closes the connection,
// whatever that node sends, and a replica of another node goes on.
func TestNodeThatStalls(t *testing.T) {
	nodes := startNodes(t, "a", "b", "c")
	owner := nodes[0]
	p, err := owner.hub.Publish(t.Context(), movie, stream.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.End(stream.Clean)
	track := &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000}
	sent := 0
	write := func() {
		f := &media.Frame{Track: track, Meta: &media.Meta{HasVideo: true}, DTS: time.Duration(sent) * 40 * time.Millisecond,
			RAP: media.Keyframe, Arrived: time.Now(), Payload: make([]byte, 256<<10)}
		f.PTS = f.DTS
		if err := p.Write(f); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	write()
	stalled, err := nodes[1].connect(t.Context(), movie, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	if _, err := stalled.Write(make([]byte, 64<<10)); err != nil { // nobody reads it
		t.Fatal(err)
	}
	viewer, err := nodes[2].hub.Subscribe(t.Context(), movie, stream.SubscribeOptions{GOPs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Leave()
	var buf [8]*media.Frame
	for owner.log.count("replica disconnected") == 0 {
		write()
		for received := false; !received; { // at the other node
			n, err := viewer.Next(t.Context(), buf[:])
			if err != nil {
				t.Fatal(err)
			}
			received = buf[n-1].DTS == time.Duration(sent-1)*40*time.Millisecond
		}
	}
	if owner.log.count("replica disconnected\" at=a stream=live/movie node=b") != 1 {
		t.Errorf("another node was disconnected:\n%s", owner.log.b.String())
	}
}
