package hls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/deliver/segment"
	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

// A testCluster is the owner of the movie and another server, without the network.
type testCluster struct {
	t              *testing.T
	owner, replica *testServer
	log            bytes.Buffer // of replica; read while it is idle
	fetches        atomic.Int64 // requests to the owner
	failing        atomic.Bool  // it does not answer

	session *stream.Replica
	sub     *stream.Subscriber // of the owner
}

func newTestCluster(t *testing.T, private bool) *testCluster {
	c := &testCluster{t: t}
	o := Options{Part: 200 * ms, Secrets: []string{"shared"}, Private: func(domain.Name) bool { return private }}
	c.owner = newTestServer(t, o, stream.Options{})
	o.Log = slog.New(slog.NewTextHandler(&c.log, nil))
	o.Fetch = func(ctx context.Context, name domain.Name, uri string) (Answer, error) {
		c.fetches.Add(1)
		if c.failing.Load() {
			return Answer{}, domain.Errorf(domain.Unavailable, "the owner is away")
		}
		return c.owner.srv.Answer(ctx, name, uri)
	}
	c.replica = newTestServer(t, o, stream.Options{})
	c.owner.movie = c.owner.publish(movie)
	c.write(9 * time.Second)
	return c
}

// write publishes d of the movie at the owner.
func (c *testCluster) write(d time.Duration) {
	c.owner.write(c.owner.movie, d)
	synctest.Wait()
	watch(c.owner)
}

// follow starts the session of the replica with the state of the owner, which has segmented all frames.
func (c *testCluster) follow() {
	c.t.Helper()
	sn, ok := c.owner.srv.Snapshot(c.t.Context(), movie)
	if !ok {
		c.t.Fatal("the owner has no state")
	}
	var err error
	if c.session, err = c.replica.hub.Replicate(movie, stream.ReplicaOptions{Epoch: sn.Epoch(), From: sn.Next(),
		ReadyAt: sn.Next()}); err != nil {
		c.t.Fatal(err)
	}
	if c.sub, err = c.owner.hub.Subscribe(c.t.Context(), movie, stream.SubscribeOptions{Every: true}); err != nil {
		c.t.Fatal(err)
	}
	c.sub.Seek(sn.Next())
	synctest.Wait()
	c.session.StartRestart(sn.Next())
	c.session.Restart(sn)
	synctest.Wait()
	watch(c.replica)
	c.copyFrames()
}

// watch makes a server segment what it has, as for a viewer: without one, it waits for the end of a segment.
func watch(s *testServer) {
	sess, _, _ := s.srv.session(movie)
	sess.recordRequest()
	synctest.Wait()
}

// copyFrames writes the frames to the replica that it does not have yet.
func (c *testCluster) copyFrames() {
	c.t.Helper()
	buf := make([]*media.Frame, 100)
	for {
		n, err := c.sub.Poll(buf)
		if errors.Is(err, stream.ErrMark) {
			c.sub.Mark()
			continue
		}
		if n == 0 {
			break
		}
		for _, f := range buf[:n] {
			frame := *f
			if err := c.session.Write(&frame); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	synctest.Wait()
}

// files returns the files that a playlist names.
func files(playlist string) (names []string) {
	for line := range strings.Lines(playlist) {
		line = strings.TrimSuffix(line, "\n")
		if _, uri, ok := strings.Cut(line, `URI="`); ok && !strings.Contains(line, "PRELOAD") {
			line, _, _ = strings.Cut(uri, `"`)
		}
		if line != "" && line[0] != '#' {
			names = append(names, line)
		}
	}
	return names
}

// compare checks that both servers have the same under a URL of the movie.
func (c *testCluster) compare(uri string) {
	c.t.Helper()
	want, got := c.owner.do("GET", "/live/movie/"+uri), c.replica.do("GET", "/live/movie/"+uri)
	equal := got.Code == want.Code && got.Body.String() == want.Body.String()
	for _, key := range []string{"ETag", "Content-Type", "Cache-Control"} {
		equal = equal && got.Header().Get(key) == want.Header().Get(key)
	}
	if !equal {
		c.t.Errorf("%s of the replica: %d %v\n%.300s\nof the owner: %d %v\n%.300s", uri, got.Code, got.Header(), got.Body,
			want.Code, want.Header(), want.Body)
	}
}

// compareAll compares playlists, all files that they name, and what does not exist.
func (c *testCluster) compareAll() {
	c.t.Helper()
	for _, list := range []string{"index.m3u8", "ts.m3u8"} {
		names := files(c.owner.get("/live/movie/" + list))
		if len(names) < 4 {
			c.t.Errorf("%s has the files %v only", list, names)
		}
		for _, uri := range append(names, list, list+"?_HLS_skip=YES", list+"?_HLS_msn=100", list+"?_HLS_msn=101&_HLS_part=1",
			list+"?_HLS_msn=99999", "100-1.m4s", "99-0.ts", "0f3a9be1c2d4.mp4") {
			c.compare(uri)
		}
	}
	for _, query := range []string{"", "?format=ts", "?format=fmp4", "?format=avi"} {
		cut := func(body string) string { before, _, _ := strings.Cut(body, "?s="); return before }
		want, got := c.owner.do("GET", "/live/movie.m3u8"+query), c.replica.do("GET", "/live/movie.m3u8"+query)
		if got.Code != want.Code || cut(got.Body.String()) != cut(want.Body.String()) {
			c.t.Errorf("multivariant playlist%s of the replica: %d\n%s\nof the owner: %d\n%s", query, got.Code, got.Body,
				want.Code, want.Body)
		}
	}
}

// TestOwnerOfOtherVersion has an owner whose segments this server cannot make: all is fetched by name. When
// it has the state of the owner it makes its own.
func TestOwnerOfOtherVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, false)
		var err error
		if c.session, err = c.replica.hub.Replicate(movie, stream.ReplicaOptions{Epoch: 100}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c.session.StartRestart(0)
			c.session.Restart(segment.OtherVersion(segment.BytesVersion + 1))
			synctest.Wait()
		}
		c.compareAll()
		if n := strings.Count(c.log.String(), "fetched from the owner"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, &c.log)
		}
		before := c.fetches.Load()
		for range 10 {
			c.compare("100-0.m4s")
		}
		if n := c.fetches.Load() - before; n != 0 {
			t.Errorf("a file was fetched %d times again", n)
		}
		sn, _ := c.owner.srv.Snapshot(t.Context(), movie)
		c.session.StartRestart(sn.Next())
		c.session.Restart(sn)
		synctest.Wait()
		before = c.fetches.Load()
		c.compare("index.m3u8")
		if n := c.fetches.Load() - before; n != 0 {
			t.Errorf("%d playlists were fetched although it has the state", n)
		}
		c.compareAll()
	})
}

// TestEndedElsewhere requests a stream from a server that never had it, after its end.
func TestEndedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, false)
		c.owner.movie.End(stream.Clean)
		sleep(2 * time.Second)
		c.compareAll()
		if w := c.replica.do("GET", "/live/movie/index.m3u8"); !strings.Contains(w.Body.String(), "#EXT-X-ENDLIST") {
			t.Errorf("the playlist is\n%s", w.Body)
		}
		for _, uri := range []string{"/live/other.m3u8", "/live/other/index.m3u8", "/live/other/100-0.m4s"} {
			if w := c.replica.do("GET", uri); w.Code != 404 {
				t.Errorf("%s: %d %s", uri, w.Code, w.Body)
			}
		}
		c.failing.Store(true)
		for _, uri := range []string{"/live/movie/index.m3u8", "/live/movie/99-0.m4s"} {
			if w := c.replica.do("GET", uri); w.Code != 503 || w.Header().Get("Retry-After") == "" ||
				w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s without an owner: %d %v", uri, w.Code, w.Header())
			}
		}
	})
}

// TestSessionsOfAllServers has a viewer of a private room that starts on one server: its session is valid on
// the other, also for playlists that are fetched.
func TestSessionsOfAllServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, true)
		for i, s := range []*testServer{c.owner, c.replica} {
			url := "/live/" + lastLine(s.get("/live/movie.m3u8?token=good"))
			_, session, _ := strings.Cut(url, "?")
			if got, want := c.replica.get(url), c.owner.get(url); got != want || !strings.Contains(got, "?"+session) {
				t.Errorf("playlist of the replica\n%s\nof the owner\n%s", got, want)
			}
			if w := c.replica.do("GET", url); w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("ETag") != "" {
				t.Errorf("header %v", w.Header())
			}
			for _, uri := range []string{"100-0.m4s?" + session, "100-0.m4s", "index.m3u8", "index.m3u8?s=x"} {
				want, got := c.owner.do("GET", "/live/movie/"+uri), c.replica.do("GET", "/live/movie/"+uri)
				if got.Code != want.Code || (got.Code == 200) != strings.HasSuffix(uri, session) {
					t.Errorf("%s: %d, of the owner %d", uri, got.Code, want.Code)
				}
			}
			if i == 0 {
				c.follow() // then the replica makes the playlist
			}
		}
	})
}

// TestAheadOfReplica requests what the owner has and the replica does not: it comes when the replica has it,
// and not before three target durations are over the response is 503. What the owner does not have is 404.
func TestAheadOfReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, false)
		c.follow()
		sleep(copyPause)
		known := map[string]bool{}
		for _, f := range files(c.replica.get("/live/movie/index.m3u8")) {
			known[f] = true
		}
		c.write(4 * time.Second)
		var ahead []string
		for _, f := range files(c.owner.get("/live/movie/index.m3u8")) {
			if !known[f] {
				ahead = append(ahead, f)
			}
		}
		if len(ahead) < 10 {
			t.Fatalf("ahead are only %v", ahead)
		}
		before := c.fetches.Load()
		request := func() (got []<-chan timedResponse) {
			for _, f := range append(ahead, "index.m3u8?_HLS_msn=104", "index.m3u8?_HLS_msn=104&_HLS_part=8") {
				got = append(got, c.replica.getAsync("/live/movie/"+f))
			}
			return got
		}
		start := time.Now()
		for i, ch := range request() {
			r := <-ch
			if d := r.at.Sub(start); r.w.Code != 503 || r.w.Header().Get("Retry-After") == "" || d != 6*time.Second ||
				r.w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("request %d: %d %v after %v", i, r.w.Code, r.w.Header(), d)
			}
		}
		start = time.Now()
		got := request()
		sleep(1500 * ms)
		c.copyFrames()
		for i, ch := range got {
			if r := <-ch; r.w.Code != 200 || r.at.Sub(start) != 1500*ms {
				t.Errorf("request %d: %d %s after %v", i, r.w.Code, r.w.Body, r.at.Sub(start))
			}
		}
		if n := c.fetches.Load() - before; n != 0 {
			t.Errorf("%d requests to the owner", n)
		}
		c.compareAll()
		c.write(20 * time.Second)
		if w := c.replica.do("GET", "/live/movie/index.m3u8?_HLS_msn=112"); w.Code != 200 ||
			!strings.Contains(w.Body.String(), "100-29000.m4s") {
			t.Errorf("a number that only the owner has: %d\n%s", w.Code, w.Body)
		}
		c.compare("index.m3u8?_HLS_msn=200")
		for _, f := range []string{"100-1.m4s", "100-8000.99.m4s", "0f3a9be1c2d4.mp4", "300-0.m4s"} {
			if w := c.replica.do("GET", "/live/movie/"+f); w.Code != 404 {
				t.Errorf("%s: %d", f, w.Code)
			}
		}
	})
}

// TestOneFetchForManyViewers has 1,000 viewers request one file of the owner. One that leaves does not end the
// request of the others, and too many different requests are refused.
func TestOneFetchForManyViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		var fetches atomic.Int64
		c := newTestServer(t, Options{Fetch: func(ctx context.Context, _ domain.Name, uri string) (Answer, error) {
			fetches.Add(1)
			select {
			case <-answer:
				return Answer{Type: "video/mp4", Body: []byte(uri)}, nil
			case <-ctx.Done():
				return Answer{}, context.Cause(ctx)
			}
		}}, stream.Options{})
		ctx, leave := context.WithCancel(t.Context())
		results := make(chan error, 2000)
		fetch := func(ctx context.Context, uri string) {
			go func() {
				a, err := c.srv.fetchForViewer(ctx, movie, uri)
				if err == nil && string(a.Body) != uri {
					err = fmt.Errorf("%s got %s", uri, a.Body)
				}
				results <- err
			}()
			synctest.Wait()
		}
		fetch(ctx, "100-0.m4s")
		for range 1000 {
			fetch(t.Context(), "100-0.m4s")
		}
		leave()
		synctest.Wait()
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d requests to the owner", n)
		}
		for i := range maxFetches + 10 {
			fetch(t.Context(), fmt.Sprintf("100-%d.m4s", i))
		}
		if n := fetches.Load(); n != maxFetches {
			t.Errorf("%d different requests to the owner", n)
		}
		close(answer)
		refused := 0
		for range 1001 + maxFetches + 10 {
			switch err := <-results; {
			case domain.KindOf(err) == domain.Unavailable:
				refused++
			case err != nil && !errors.Is(err, context.Canceled):
				t.Error(err)
			}
		}
		if refused != 10 {
			t.Errorf("%d requests were refused", refused)
		}
		big := Answer{Body: make([]byte, maxKept/4)}
		for i := range 20 {
			c.srv.fetches.keep(fmt.Sprint(i), big)
		}
		if fs := &c.srv.fetches; fs.keptBytes != maxKept || len(fs.kept) != 4 || len(fs.order) != 4 {
			t.Errorf("%d files with %d bytes are kept", len(fs.kept), fs.keptBytes)
		}
	})
}

// TestLastSeal ends the session of a replica after the seal of its last segment. If that differs, it is counted,
// and viewers get the segment of the owner.
func TestLastSeal(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		t.Run(fmt.Sprintf("damaged %v", damaged), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTestCluster(t, false)
				c.follow()
				c.write(3 * time.Second)
				c.copyFrames()
				before := c.fetches.Load()
				c.owner.movie.End(stream.Clean)
				_, last := c.owner.srv.Final(t.Context(), movie)
				if last == nil {
					t.Fatal("the owner has no last segment")
				}
				seal := last.Seal()
				if damaged {
					seal.Digest++
				}
				c.session.Mark(stream.Noted, seal)
				c.session.End()
				sleep(2 * time.Second)
				c.compare("index.m3u8")
				if n := c.fetches.Load() - before; (n > 0) != damaged {
					t.Errorf("%d requests to the owner", n)
				}
				if n := c.replica.srv.Mismatches(); (n == 1) != damaged || n > 1 {
					t.Errorf("%d mismatches", n)
				}
				c.compareAll()
			})
		})
	}
}
