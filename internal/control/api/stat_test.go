package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

const (
	moviePublisher = `{"key":"live/movie","url":"rtmp://localhost:1935/live/movie","stream_id":1,` +
		`"video_total_bytes":312500,"video_speed":2500,"audio_total_bytes":16000,"audio_speed":128,` +
		`"gather_ms":{"flv":0,"hls":0},"skips":1,` +
		`"players":{"flv":{"count":1,"bytes":125000,"skips":1},"hls":{"count":1,"bytes":8000,"skips":0}}}`
	moviePlayers = `{"key":"live/movie","url":"http://127.0.0.1:7001/live/movie.flv","stream_id":3,` +
		`"video_total_bytes":125000,"video_speed":1000,"audio_total_bytes":0,"audio_speed":0,` +
		`"proto":"flv","delay_ms":80,"queue_bytes":16427,"skips":1},` +
		`{"key":"live/movie","url":"http://127.0.0.1:7002/live/movie.m3u8","stream_id":4,` +
		`"video_total_bytes":0,"video_speed":0,"audio_total_bytes":8000,"audio_speed":64,"proto":"hls"}`
	otherPublisher = `{"key":"live/other","url":"rtmp://localhost:1935/live/other","stream_id":2,` +
		`"video_total_bytes":312500,"video_speed":2500,"audio_total_bytes":16000,"audio_speed":128,"gather_ms":{},"skips":0}`
)

// TestLiveStat compares /stat/livestat byte for byte with the documented format.
func TestLiveStat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFixture(t, nil)
		defer s.hub.Close() // inside the synctest bubble, because of the hub's timers
		check := func(target string, status int, want string) {
			t.Helper()
			w := s.get(target)
			if got := w.Body.String(); w.Code != status || got != want {
				t.Errorf("%s: %d\n got %s\nwant %s", target, w.Code, got, want)
			}
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("%s: Content-Type %q", target, got)
			}
		}
		check("/stat/livestat", 200, `{"status":200,"data":{"publishers":null,"players":null}}`)

		movie, other := domain.Name{App: "live", Room: "movie"}, domain.Name{App: "live", Room: "other"}
		p := s.publish(movie, domain.KeyRef{})
		s.publish(other, domain.KeyRef{})
		v := s.watch(movie, "flv", "http://127.0.0.1:7001/live/movie.flv?token=canary", 125_000, 0)
		v.ObserveProgress(0, 0, 10*time.Millisecond, time.Now())
		v.AttachSocket(func() int { return 16_427 }) // 50 ms of 2627 kbit/s
		v.Skip()
		s.watch(movie, "hls", "http://user:canary@127.0.0.1:7002/live/movie.m3u8#canary", 0, 8_000)
		check("/stat/livestat", 200, `{"status":200,"data":{"publishers":[`+moviePublisher+`,`+otherPublisher+`],"players":[`+
			moviePlayers+`]}}`)
		check("/stat/livestat?room=live/movie", 200,
			`{"status":200,"data":{"publishers":[`+moviePublisher+`],"players":[`+moviePlayers+`]}}`)
		check("/stat/livestat?room=live%2Fother", 200,
			`{"status":200,"data":{"publishers":[`+otherPublisher+`],"players":null}}`)

		p.End(stream.Lost)
		// at the bitrate that the viewer received
		check("/stat/livestat?room=live/movie", 200,
			`{"status":200,"data":{"publishers":null,"players":[`+
				strings.Replace(moviePlayers, `"delay_ms":80`, `"delay_ms":161`, 1)+`]}}`)

		const inactive = `{"status":404,"data":"room not found or inactive"}`
		for _, room := range []string{"live/nothing", "nowhere/movie", "movie"} {
			check("/stat/livestat?room="+room, 404, inactive)
		}
	})
}

// TestLiveStatManyViewers reads the statistics of a stream with more viewers than are copied at
// once.
func TestLiveStatManyViewers(t *testing.T) {
	if size := statBatch * int(reflect.TypeFor[stream.ConnInfo]().Size()); size > 64<<10 {
		t.Errorf("%d bytes are copied at once, want 64 KiB at most", size)
	}
	s := newFixture(t, nil)
	movie := domain.Name{App: "live", Room: "movie"}
	s.publish(movie, domain.KeyRef{})
	var want []uint64
	for n := range 3*statBatch + 7 {
		if v := s.watch(movie, "hls", "http://localhost/live/movie.m3u8", 0, 0); n%5 == 0 {
			v.Leave()
		} else {
			want = append(want, v.ID())
		}
	}
	var doc struct {
		Status int
		Data   struct{ Publishers, Players []connStats }
	}
	w := s.get("/stat/livestat")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, p := range doc.Data.Players {
		got = append(got, p.StreamID)
	}
	if doc.Status != 200 || len(doc.Data.Publishers) != 1 || !slices.Equal(got, want) {
		t.Errorf("status %d, %d publishers, players %v, want %v", doc.Status, len(doc.Data.Publishers), got, want)
	}
	if page := s.get("/").Body.String(); !strings.Contains(page, fmt.Sprintf("%d hls", len(want))) {
		t.Errorf("the page does not count %d viewers", len(want))
	}
}

// A firstWriteRecorder calls a function at the first write, and records the size of the largest.
type firstWriteRecorder struct {
	*httptest.ResponseRecorder
	first   func()
	largest int
}

func (w *firstWriteRecorder) Write(b []byte) (int, error) {
	if w.first != nil {
		w.first()
		w.first = nil
	}
	w.largest = max(w.largest, len(b))
	return w.ResponseRecorder.Write(b)
}

// TestLiveStatIsStreamed has the last of many viewers leave when the client receives the first
// bytes of the statistics. The document does not contain it: the rest is encoded later.
func TestLiveStatIsStreamed(t *testing.T) {
	s := newFixture(t, nil)
	movie := domain.Name{App: "live", Room: "movie"}
	s.publish(movie, domain.KeyRef{})
	const viewers = 10 * statBatch
	var last *stream.Viewer
	for range viewers {
		last = s.watch(movie, "hls", "http://localhost/live/movie.m3u8", 0, 0)
	}
	w := &firstWriteRecorder{ResponseRecorder: httptest.NewRecorder(), first: last.Leave}
	r := httptest.NewRequest("GET", "/stat/livestat", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:40000", "localhost:8090"
	s.handler.ServeHTTP(w, r)
	var doc struct {
		Data struct{ Players []connStats }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Data.Players) != viewers-1 {
		t.Errorf("%v, %d players, want %d", err, len(doc.Data.Players), viewers-1)
	}
	if w.largest > 64<<10 || w.Body.Len() < 4*w.largest {
		t.Errorf("%d bytes are written in pieces of up to %d", w.Body.Len(), w.largest)
	}
}

// TestInvalidHostHeader checks that no response repeats an invalid Host header.
func TestInvalidHostHeader(t *testing.T) {
	s := newFixture(t, nil)
	for _, host := range []string{"a'onmouseover=alert(1)", "a<b>", strings.Repeat("a", 15<<10)} {
		for _, path := range []string{"/", "/stat/livestat", "/control/get?room=movie", "/api/v1/keys", "/healthz"} {
			w := s.get(path, "Host: "+host)
			if w.Code != http.StatusBadRequest || strings.Contains(w.Body.String(), "alert") {
				t.Errorf("%s for %.30q: %d %s", path, host, w.Code, w.Body)
			}
		}
	}
}

func TestLiveStatBadRoom(t *testing.T) {
	s := newFixture(t, nil)
	for name, query := range map[string]string{
		"empty": "room=", "twice": "room=live/a&room=live/b",
		"path": "room=live/../x", "parent": "room=..", "no room": "room=live/", "no app": "room=/movie",
		"absolute": "room=//host/x", "NUL": "room=live/a%00", "markup": "room=live/%3Cscript%3E",
	} {
		t.Run(name, func(t *testing.T) {
			w := s.get("/stat/livestat?" + query)
			wantStatus(t, w, 400)
			if dataOf(t, w) == "" {
				t.Error("the response has no reason")
			}
		})
	}
}

func TestRedactURL(t *testing.T) {
	name := domain.Name{App: "live", Room: "movie"}
	key := domain.NewSecret()
	for raw, want := range map[string]string{
		"":                             "",
		"rtmp://h:1935/live/movie":     "rtmp://h:1935/live/movie",
		"rtmp://h/live/" + key:         "rtmp://h/live/movie",
		"rtmp://h/live/" + key + "?a":  "rtmp://h/live/movie",
		"http://u:p@h/live/a.flv?t=x#": "http://h/live/a.flv",
		"http://h/%zz":                 "",
	} {
		if got := redactURL(raw, name); got != want {
			t.Errorf("publicURL(%q) = %q, want %q", raw, got, want)
		}
	}
}

// TestLiveStatUnderChurn reads statistics while streams start and end, for the race detector and to
// find lock contention.
func TestLiveStatUnderChurn(t *testing.T) {
	s := newFixture(t, func(o *Options) { o.Log = discard() })
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 50 {
				p := s.publish(domain.Name{App: "live", Room: fmt.Sprintf("room-%d-%d", i, j)}, domain.KeyRef{})
				p.End(stream.Clean)
			}
		})
	}
	for range 100 {
		start := time.Now()
		w := s.get("/stat/livestat")
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), `{"status":200,"data":{"publishers":`) {
			t.Errorf("%d %.100s", w.Code, w.Body)
		}
		if d := time.Since(start); d > 5*time.Second { // far more than without lock contention
			t.Errorf("took %v", d)
		}
		s.get("/")
	}
	wg.Wait()
}

// TestSkippedFrames checks that the statistics and the page show frames that reach no viewer.
func TestSkippedFrames(t *testing.T) {
	s := newFixture(t, nil)
	name, skips := domain.Name{App: "live", Room: "movie"}, &media.Skips{}
	if _, err := s.hub.Publish(t.Context(), name,
		stream.PublishOptions{Proto: "rtmp", Skips: skips}); err != nil {
		t.Fatal(err)
	}
	if got := s.get("/stat/livestat").Body.String(); strings.Contains(got, "skipped") ||
		strings.Contains(got, "unusable") {
		t.Errorf("nothing was skipped: %s", got)
	}
	for range 3 {
		skips.Add(media.Skip{Kind: media.Audio, Reason: media.SkipNoConfig})
	}
	skips.Add(media.Skip{Kind: media.Video, Reason: media.SkipMalformed})
	skips.AddSilent()
	skips.SetUnusable(media.UnusableTrack{Kind: media.Audio, Codec: "aac", Reason: "no configuration"})
	got := s.get("/stat/livestat").Body.String()
	want := `"skipped":{"malformed":1,"no_configuration":3},"silent_frames":1,` +
		`"unusable_tracks":[{"kind":"audio","track":0,"codec":"aac","reason":"no configuration"}]`
	if !strings.Contains(got, want) {
		t.Errorf("%s\nlacks %s", got, want)
	}
	wantText(t, text(s.get("/").Body.String()), "audio AAC · unusable: no configuration",
		"skipped 4 frames or messages that cannot be used")
}

// TestFailedConsumer checks that the statistics and the page show a part of the server that has failed
// for a stream and is off.
func TestFailedConsumer(t *testing.T) {
	s := newFixture(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	defer s.hub.Supervise(ctx, stream.Consumer{Name: "hls", Log: discard(),
		Run:   func(context.Context, *stream.Session) error { panic("segmenting fails") },
		Ended: func(*stream.Session) { close(ended) },
	})()
	defer stop()
	name := domain.Name{App: "live", Room: "movie"}
	if _, err := s.hub.Publish(t.Context(), name,
		stream.PublishOptions{Proto: "rtmp"}); err != nil {
		t.Fatal(err)
	}
	<-ended
	if got := s.get("/stat/livestat").Body.String(); !strings.Contains(got, `"off":["hls"]`) {
		t.Error(got)
	}
	wantText(t, text(s.get("/").Body.String()), "off hls, after repeated failures: see the log")
}

// BenchmarkLiveStat lists 10,000 players.
func BenchmarkLiveStat(b *testing.B) {
	hub := stream.NewHub(stream.Options{})
	defer hub.Close()
	name := domain.Name{App: "live", Room: "movie"}
	if _, err := hub.Publish(b.Context(), name, stream.PublishOptions{Proto: "rtmp"}); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	for i := range 10_000 {
		v, err := hub.Join(name, stream.ViewerOptions{Proto: "flv", Remote: fmt.Sprintf("192.0.2.1:%d", i),
			URL: "http://127.0.0.1:7001/live/movie.flv"})
		if err != nil {
			b.Fatal(err)
		}
		v.ObserveProgress(100_000, 10_000, time.Second, now)
		v.AttachSocket(func() int { return 1000 })
	}
	s := &server{Options: Options{Hub: hub}}
	b.ReportAllocs()
	for b.Loop() {
		streamEnvelope(httptest.NewRecorder(), s.liveStats(hub.Names()))
	}
}
