package replica_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/cluster/replica"
	"livego/internal/domain"
	"livego/internal/edge/hls"
	"livego/internal/media"
	"livego/internal/stream"
)

var movie = domain.Name{App: "live", Room: "movie"}

const ms = time.Millisecond

type anyViewer struct{}

func (anyViewer) Authorize(context.Context, domain.AuthRequest) (domain.Grant, error) {
	return domain.Grant{Name: movie}, nil
}

func (anyViewer) ReserveViewers(domain.ViewerLimit, int) error { return nil }
func (anyViewer) ReleaseViewers(domain.ViewerLimit, int)       {}

// A server is a hub with HLS.
type server struct {
	name string
	hub  *stream.Hub
	hls  *hls.Server
}

// A cluster is an owner and its replicas.
type cluster struct {
	t       *testing.T
	seed    uint64
	owner   *server
	source  *replica.Source
	work    sync.WaitGroup
	healthy atomic.Bool // links have no failures from now on
	// healthySince is since when; read after healthy is true.
	healthySince time.Time
	overruns     atomic.Int64
	fetched      atomic.Int64
	late         atomic.Int64 // requests that a server could not answer in time

	mu       sync.Mutex
	files    map[string]file // what was seen, by name
	links    []net.Conn      // of the owner
	cutUntil time.Time       // there are no links before
}

// A file is something that was seen under a name: the hash of a file, or the text of a playlist.
type file struct{ content, by string }

// see records what server by has under a name. Everybody must have the same.
func (c *cluster) see(name, content, by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.files[name]; !ok {
		c.files[name] = file{content, by}
	} else if known.content != content {
		c.t.Errorf("seed %d: %s of %s is\n%s\nof %s\n%s", c.seed, name, by, content, known.by, known.content)
	}
}

func (c *cluster) newServer(ctx context.Context, name string, o hls.Options) *server {
	var epoch atomic.Uint64
	nextEpoch := func(context.Context) (uint64, error) { return epoch.Add(1000), nil }
	s := &server{name: name, hub: stream.NewHub(stream.Options{Hold: 20 * time.Second, Epoch: nextEpoch})}
	o.Log, o.FirstWait = slog.New(slog.NewTextHandler(c.t.Output(), nil)), 10*time.Second
	s.hls = hls.New(s.hub, anyViewer{}, o)
	c.work.Go(func() { s.hls.Run(ctx) })
	return s
}

// get returns a file or a playlist.
func (s *server) get(ctx context.Context, file string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.hls.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/live/movie/"+file, nil))
	return w
}

// parsePlaylist returns the files that a media playlist names, without those of gaps, and the tags of
// each segment, by its name.
func parsePlaylist(body string) (files []string, entries map[string]string) {
	entries = map[string]string{}
	tags := ""
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		_, value, _ := strings.Cut(line, `URI="`)
		value, _, _ = strings.Cut(value, `"`)
		switch {
		case strings.HasPrefix(line, "#EXT-X-PART:"), strings.HasPrefix(line, "#EXT-X-MAP:"):
			files = append(files, value)
		case line == "#EXT-X-DISCONTINUITY", line == "#EXT-X-GAP", strings.HasPrefix(line, "#EXT-X-PROGRAM-DATE-TIME:"),
			strings.HasPrefix(line, "#EXTINF:"):
			tags += line + "\n"
		case line != "" && line[0] != '#':
			if entries[line] = tags; !strings.Contains(tags, "GAP") {
				files = append(files, line)
			}
			tags = ""
		}
	}
	return files, entries
}

// observe records all that players get of s now.
func (c *cluster) observe(ctx context.Context, s *server) {
	for _, name := range []string{"index.m3u8", "ts.m3u8"} {
		w := s.get(ctx, name)
		if w.Code != http.StatusOK {
			continue
		}
		body, etag := w.Body.String(), name+" "+w.Header().Get("ETag")
		if c.see(etag, body, s.name); c.seenBy(s, etag) {
			continue
		}
		files, entries := parsePlaylist(body)
		for file, tags := range entries {
			c.see("entry of "+file, tags, s.name)
		}
		for _, f := range files {
			if c.seenBy(s, f) {
				continue
			}
			if w := s.get(ctx, f); w.Code == http.StatusOK {
				c.see(f, fmt.Sprintf("%x", sha256.Sum256(w.Body.Bytes())), s.name)
				c.see(s.name+" has "+f, "", s.name)
			} else if ctx.Err() == nil {
				c.t.Errorf("seed %d: %s has %s in its playlist: status %d %s", c.seed, s.name, f, w.Code, w.Body)
			}
		}
		c.see(s.name+" has "+etag, "", s.name)
	}
}

func (c *cluster) seenBy(s *server, f string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.files[s.name+" has "+f]
	return ok
}

// watch observes s until ctx ends.
func (c *cluster) watch(ctx context.Context, s *server, every time.Duration) {
	for sleep(ctx, every) {
		c.observe(ctx, s)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// see200 records what s has under a name that the owner lists. It may be too late for that only while links
// have failures.
func (c *cluster) see200(ctx context.Context, s *server, uri, as string, content func([]byte) string) {
	healthy := c.healthy.Load() && time.Since(c.healthySince) > maxStall+4*time.Second // and it has caught up
	w := s.get(ctx, uri)
	switch {
	case ctx.Err() != nil:
	case w.Code == http.StatusOK:
		if as == "" {
			as = "index.m3u8 " + w.Header().Get("ETag")
		}
		c.see(as, content(w.Body.Bytes()), s.name)
	case w.Code != http.StatusServiceUnavailable || healthy:
		c.t.Errorf("seed %d: %s has no %s, which the owner has: status %d %s", c.seed, s.name, uri, w.Code, w.Body)
	case w.Header().Get("Retry-After") == "" || w.Header().Get("Cache-Control") != "no-store":
		c.t.Errorf("seed %d: %s is not ready for %s: header %v", c.seed, s.name, uri, w.Header())
	default:
		c.late.Add(1)
	}
}

// roam requests what the owner lists now from random servers until ctx ends, which may not have it yet: files,
// and the playlist with the newest segment.
func (c *cluster) roam(ctx context.Context, servers []*server, rnd *rand.Rand) {
	var requests sync.WaitGroup
	defer requests.Wait()
	for sleep(ctx, time.Duration(rnd.Int64N(int64(500*ms)))) {
		w := c.owner.get(ctx, "index.m3u8")
		if w.Code != http.StatusOK || !c.owner.hub.Has(movie) {
			continue
		}
		body, s := w.Body.String(), servers[rnd.IntN(len(servers))]
		if files, _ := parsePlaylist(body); len(files) > 0 && rnd.IntN(3) > 0 {
			f := files[len(files)-1-min(rnd.IntN(len(files)), rnd.IntN(len(files)))] // mostly a new one
			requests.Go(func() {
				c.see200(ctx, s, f, f, func(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) })
			})
			continue
		}
		_, first, _ := strings.Cut(body, "#EXT-X-MEDIA-SEQUENCE:")
		var msn uint64
		if _, err := fmt.Sscan(first, &msn); err != nil {
			c.t.Errorf("playlist\n%s", body)
		}
		msn += uint64(strings.Count(body, "#EXTINF:")) - 1
		requests.Go(func() {
			c.see200(ctx, s, fmt.Sprintf("index.m3u8?_HLS_msn=%d", msn), "", func(b []byte) string { return string(b) })
		})
	}
}

// maxStall is how long a link stalls.
const maxStall = 6 * time.Second

// A link is the replica's end of a connection that stalls and breaks.
type link struct {
	net.Conn
	c   *cluster
	rnd *rand.Rand
}

// A delayed is a connection whose data comes later.
type delayed struct {
	net.Conn
	chunks chan chunk
	rest   []byte
}

type chunk struct {
	at   time.Time
	data []byte
	err  error
}

// delay returns c with data that comes d later.
func (c *cluster) delay(nc net.Conn, d time.Duration) net.Conn {
	l := &delayed{nc, make(chan chunk, 1<<16), nil}
	c.work.Go(func() {
		for {
			b := make([]byte, 32<<10)
			n, err := nc.Read(b)
			l.chunks <- chunk{time.Now().Add(d), b[:n], err}
			if err != nil {
				return
			}
		}
	})
	return l
}

// SetReadDeadline does nothing: there are pings. That of a pipe fails when its other end is closed.
func (l *delayed) SetReadDeadline(time.Time) error { return nil }

func (l *delayed) Read(b []byte) (int, error) {
	if len(l.rest) == 0 {
		next := <-l.chunks
		time.Sleep(time.Until(next.at))
		if l.rest = next.data; next.err != nil {
			return 0, next.err
		}
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *link) Read(b []byte) (int, error) {
	if !l.c.healthy.Load() {
		switch l.rnd.IntN(6000) {
		case 0:
			l.Close()
		case 1, 2, 3, 4:
			time.Sleep(time.Duration(l.rnd.Int64N(int64(maxStall))))
		}
	}
	return l.Conn.Read(b)
}

// cut breaks all links for a while.
func (c *cluster) cut(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutUntil = time.Now().Add(d)
	for _, l := range c.links {
		l.Close()
	}
}

// follow replicates the movie to s until ctx ends, again when it has ended. What the owner sends comes late
// by lag.
func (c *cluster) follow(ctx context.Context, s *server, lag time.Duration, rnd *rand.Rand) {
	dial := func(ctx context.Context, after uint64) (net.Conn, error) {
		c.mu.Lock()
		a, b := net.Pipe()
		c.links = append(c.links, a)
		until := c.cutUntil
		c.mu.Unlock()
		sleep(ctx, time.Until(until))
		if lag > 0 {
			b = c.delay(b, lag)
		}
		c.work.Go(func() {
			if err := c.source.Serve(ctx, a, movie, after); err != nil && strings.Contains(err.Error(), "overrun") {
				c.overruns.Add(1)
			}
		})
		return &link{b, c, rnd}, nil
	}
	for sleep(ctx, 100*ms) {
		_ = replica.Follow(ctx, s.hub, movie, replica.FollowOptions{Node: s.name, Dial: dial,
			Log: slog.New(slog.NewTextHandler(c.t.Output(), nil)).With("server", s.name)})
	}
}

// run is one stream on a cluster of three servers.
func run(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 18))
	ctx, stop := context.WithCancel(t.Context())
	c := &cluster{t: t, seed: seed, files: make(map[string]file)}
	pick := func(d ...time.Duration) time.Duration { return d[rnd.IntN(len(d))] }
	o := hls.Options{Segment: pick(2*time.Second, 2*time.Second, time.Second), Part: pick(200*ms, 200*ms, 330*ms, 0),
		TrackWait: 2 * time.Second}
	c.owner = c.newServer(ctx, "owner", o)
	c.source = replica.NewSource(c.owner.hub, replica.SourceOptions{Node: "owner", Snapshot: c.owner.hls.Snapshot,
		Final:     c.owner.hls.Final,
		MaxBehind: []int{16 << 10, 100 << 10, 16 << 20}[rnd.IntN(3)]})
	servers := []*server{c.owner}
	lag := []time.Duration{0, pick(0, 0, 1500*ms)}
	for i := range 2 {
		s := c.newServer(ctx, fmt.Sprintf("replica %d", i), hls.Options{TrackWait: 2 * time.Second,
			Fetch: func(ctx context.Context, name domain.Name, uri string) (hls.Answer, error) {
				c.fetched.Add(1)
				return c.owner.hls.Answer(ctx, name, uri)
			}})
		servers = append(servers, s)
		start, links := time.Duration(rnd.Int64N(int64(8*time.Second))), rand.New(rand.NewPCG(seed, uint64(100+i)))
		c.work.Go(func() {
			if sleep(ctx, start) {
				c.follow(ctx, s, lag[i], links)
			}
		})
	}
	c.work.Go(func() { c.roam(ctx, servers, rand.New(rand.NewPCG(seed, 7))) })
	for _, s := range servers {
		every := 150*ms + time.Duration(rnd.Int64N(int64(200*ms)))
		c.work.Go(func() { c.watch(ctx, s, every) })
	}
	e := &encoder{t: t, hub: c.owner.hub, rnd: rnd, video: newH264(1280), audio: newAAC(44100)}
	stretches := 3 + rnd.IntN(4)
	for i := range stretches {
		if i == stretches-1 {
			c.healthySince = time.Now()
			c.healthy.Store(true)
		}
		e.stretch(ctx)
	}
	e.write(ctx, 9*time.Second, nil)
	if rnd.IntN(3) == 0 { // replicas get the last frames, or know of the end, later
		c.cut(3 * time.Second)
	}
	e.publisher.End(stream.Clean)
	sleep(ctx, 8*time.Second)
	for _, s := range servers {
		c.observe(ctx, s)
		if !c.owner.hub.Has(movie) != !s.hub.Has(movie) {
			t.Errorf("seed %d: %s has a session: %v", seed, s.name, s.hub.Has(movie))
		}
	}
	for _, name := range []string{"index.m3u8", "ts.m3u8"} {
		want := c.owner.get(ctx, name)
		for _, s := range servers[1:] {
			if got := s.get(ctx, name); got.Body.String() != want.Body.String() {
				t.Errorf("seed %d: the last %s of %s is\n%s\nof the owner\n%s", seed, name, s.name, got.Body, want.Body)
			}
		}
	}
	for _, s := range servers {
		if n := s.hls.Mismatches(); n != 0 {
			t.Errorf("seed %d: %d segments of %s differ from those of the owner", seed, n, s.name)
		}
	}
	own := 0 // files and playlists
	for name := range c.files {
		if strings.HasPrefix(name, "replica ") {
			own++
		}
	}
	t.Logf("seed %d: %d names, %d files of replicas, %d requests to the owner, %d too late, %d overruns", seed,
		len(c.files), own, c.fetched.Load(), c.late.Load(), c.overruns.Load())
	stop()
	for _, s := range servers {
		s.hub.Close()
	}
	c.work.Wait()
}

var onlySeed = flag.Int64("seed", -1, "run the stream of this seed only")

// TestEqualBytes replicates generated streams over links that stall and break. Each segment, part,
// initialization section and playlist has the same bytes under its name on every server.
func TestEqualBytes(t *testing.T) {
	from, to := uint64(0), uint64(seeds)
	if os.Getenv("TEST_LONG") != "" {
		to = 2000
	}
	if *onlySeed >= 0 {
		from, to = uint64(*onlySeed), uint64(*onlySeed)+1
	}
	for seed := from; seed < to && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { run(t, seed) })
	}
}

// An encoder publishes a generated stream.
type encoder struct {
	t            *testing.T
	hub          *stream.Hub
	rnd          *rand.Rand
	publisher    *stream.Publisher
	at           time.Duration // its clock
	video, audio *media.Track
	frames       uint32
}

// avcC is of 1280x720, High profile.
var avcC = []byte("\x01\x64\x00\x1f\xff\xe1\x00\x1a\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb" +
	"\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\xc0\xf1\x83\x19\x60\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0")

func newH264(width int) *media.Track {
	return &media.Track{Kind: media.Video, Codec: media.H264, Config: avcC, Timescale: 90000, RFC6381: "avc1.64001f",
		Width: width, Height: 720}
}

func newAAC(rate int) *media.Track {
	config := []byte{0x12, 0x10}
	if rate == 48000 {
		config = []byte{0x11, 0x90}
	}
	return &media.Track{Kind: media.Audio, Codec: media.AAC, Config: config, Timescale: uint32(rate), SampleRate: rate,
		Channels: 2, FrameSamples: 1024, RFC6381: "mp4a.40.2"}
}

func newOpus() *media.Track {
	return &media.Track{Kind: media.Audio, Codec: media.Opus, Timescale: 48000, SampleRate: 48000, Channels: 2,
		Config:       []byte("OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"),
		FrameSamples: 960, RFC6381: "opus"}
}

func (e *encoder) oneIn(n int) bool { return e.rnd.IntN(n) == 0 }

// stretch publishes some seconds, after a change of what is published or of the connection.
func (e *encoder) stretch(ctx context.Context) {
	if e.publisher != nil {
		switch e.rnd.IntN(8) {
		case 0, 1: // away for a while
			e.publisher.End(stream.Lost)
			e.publisher = nil
			sleep(ctx, time.Duration(e.rnd.Int64N(int64(8*time.Second))))
		case 2: // another session
			e.publisher.End(stream.Clean)
			e.publisher = nil
			sleep(ctx, time.Second+time.Duration(e.rnd.Int64N(int64(4*time.Second))))
		case 3: // the clock is set
			e.at += time.Minute
		case 4: // the encoder stalls
			d := time.Duration(e.rnd.Int64N(int64(5 * time.Second)))
			sleep(ctx, d)
			e.at += d
		}
		switch e.rnd.IntN(6) {
		case 0:
			e.video = newH264(640 + 2*e.rnd.IntN(600))
		case 1:
			e.audio = newAAC(48000)
		case 2:
			e.video, e.audio = newH264(1280), newAAC(44100)
		case 3:
			e.audio = newOpus()
		}
	}
	long := time.Second + time.Duration(e.rnd.Int64N(int64(8*time.Second)))
	e.write(ctx, long, &media.Meta{HasVideo: true, HasAudio: true})
}

// write publishes frames in real time for a while.
func (e *encoder) write(ctx context.Context, long time.Duration, meta *media.Meta) {
	if e.publisher == nil {
		var err error
		if e.publisher, err = e.hub.Publish(ctx, movie, stream.PublishOptions{Proto: "test"}); err != nil {
			e.t.Fatal(err)
		}
		e.at = time.Duration(e.rnd.Int64N(int64(time.Hour)))
		video, audio := *e.video, *e.audio // a new connection has new tracks
		e.video, e.audio = &video, &audio
	}
	if e.oneIn(3) {
		meta = nil
	}
	interval := []time.Duration{40 * ms, 40 * ms, 33366667, 20 * ms, 80 * ms, 500 * ms}[e.rnd.IntN(6)]
	gops := []time.Duration{400 * ms, time.Second, 2 * time.Second, 2 * time.Second, 5 * time.Second}
	gop := max(interval, gops[e.rnd.IntN(len(gops))])
	sound := e.audio.FrameSamples * int(time.Second) / e.audio.SampleRate
	audioEvery, audioFrom, videoFrom, videoTo := time.Duration(sound), time.Duration(0), time.Duration(0), long
	switch e.rnd.IntN(8) {
	case 0:
		audioEvery = time.Second + time.Duration(e.rnd.Int64N(int64(2*time.Second))) // sparse
	case 1:
		audioFrom = long + 1 // none
	case 2:
		audioFrom = time.Duration(e.rnd.Int64N(int64(long))) // late
	case 3:
		videoFrom = time.Duration(e.rnd.Int64N(int64(long)))
	case 4:
		videoTo = time.Duration(e.rnd.Int64N(int64(long)))
	case 5:
		videoTo = 0 // none
	}
	start := time.Now()
	second := e.oneIn(5) // a video track that is not the first comes first
	other := *e.video
	other.ID = 1
	nextVideo, nextAudio, pictures := videoFrom, audioFrom, 0
	for at := min(nextVideo, nextAudio); at < long; at = min(nextVideo, nextAudio) {
		sleep(ctx, time.Until(start.Add(at)))
		if at == nextVideo {
			f := e.frame(e.video, at, meta, pictures%max(1, int(gop/interval)) == 0)
			if second && at < 600*ms {
				f.Track = &other
			}
			if nextVideo += interval; at >= videoTo {
				nextVideo = long
			} else if err := e.publisher.Write(f); err != nil {
				e.t.Fatal(err)
			}
			pictures++
			continue
		}
		f := e.frame(e.audio, at, meta, true)
		nextAudio += audioEvery
		if err := e.publisher.Write(f); err != nil {
			e.t.Fatal(err)
		}
	}
	sleep(ctx, time.Until(start.Add(long)))
	e.at += long
}

// frame returns a frame at a time of the stretch. No two have the same content.
func (e *encoder) frame(t *media.Track, at time.Duration, meta *media.Meta, key bool) *media.Frame {
	n := 20 + e.rnd.IntN(300)
	if t.Kind == media.Video && key {
		n += 3000
	}
	f := &media.Frame{Track: t, Meta: meta, DTS: (e.at + at).Truncate(ms), Arrived: time.Now(), Payload: make([]byte, n)}
	f.PTS = f.DTS
	e.frames++
	binary.BigEndian.PutUint32(f.Payload, uint32(n-4)) // the length of the only NAL unit
	f.Payload[4] = 0x41
	binary.BigEndian.PutUint32(f.Payload[5:], e.frames|0x80808080) // no start code
	if key {
		f.RAP, f.KeyFlag, f.Payload[4] = media.Keyframe, true, 0x65
	}
	return f
}
