package metrics

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"livego/internal/control/auth"
	"livego/internal/control/events"
	"livego/internal/control/store/bolt"
	"livego/internal/control/store/measured"
	"livego/internal/control/webhook"
	"livego/internal/domain"
	"livego/internal/edge/hls"
	"livego/internal/edge/report"
	"livego/internal/edge/thumbnail"
	"livego/internal/health/monitor"
	"livego/internal/media"
	"livego/internal/ops/netx"
	"livego/internal/proto/cmcd"
	"livego/internal/quality"
	"livego/internal/record"
	"livego/internal/relay"
	"livego/internal/stream"
)

// newOptions returns the parts of a server, which run nothing.
func newOptions(t testing.TB) Options {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub := stream.NewHub(stream.Options{Hold: time.Hour})
	t.Cleanup(hub.Close)
	chain := auth.NewChain(nil, func(context.Context, domain.AuthRequest, domain.Grant) (domain.Grant, error) {
		return domain.Grant{}, domain.CodeErrorf(domain.Denied, domain.TokenExpired, "expired")
	})
	admin, err := auth.NewAdminAuth(t.TempDir(), auth.AdminOptions{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := bolt.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	relays, err := relay.New(hub, relay.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	outbox, err := webhook.OpenOutbox(hub, webhook.OutboxOptions{URL: "http://127.0.0.1:1", Dir: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(context.Background())
	stop()
	t.Cleanup(func() { outbox.Run(stopped) }) // closes its queue
	limiter := netx.NewLimiter(netx.LimitOptions{})
	t.Cleanup(limiter.Close)
	players := quality.New()
	return Options{
		Version: "v1", Ready: func() error { return nil }, Hub: hub, HLS: hls.New(hub, chain, hls.Options{}),
		Thumbnails: thumbnail.New(hub, chain, thumbnail.Options{}),
		Health:     monitor.New(hub, monitor.Options{Log: log}), Quality: players, Reports: report.New(players, false),
		Relays:   relays,
		Recorder: record.New(hub, record.Options{Dir: t.TempDir(), Log: log}),
		Webhooks: webhook.NewAuthorizer(webhook.AuthorizerOptions{}), Outbox: outbox, Store: measured.New(store),
		Authorizer: chain, AdminAuth: admin, Events: events.New(), Limiters: map[string]*netx.Limiter{"public": limiter},
		Log: log,
	}
}

var video = &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000, Config: []byte{1}}

// publish starts a stream with one frame.
func publish(t testing.TB, hub *stream.Hub, room string) *stream.Publisher {
	t.Helper()
	p, err := hub.Publish(context.Background(), domain.Name{App: "live", Room: room}, stream.PublishOptions{Proto: "rtmp"})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Write(&media.Frame{Track: video, RAP: media.Keyframe, KeyFlag: true, Payload: make([]byte, 100),
		Arrived: time.Now(), Meta: &media.Meta{HasVideo: true}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func join(t testing.TB, hub *stream.Hub, room, proto string) *stream.Viewer {
	t.Helper()
	v, err := hub.Join(domain.Name{App: "live", Room: room}, stream.ViewerOptions{Proto: proto})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// scrape returns the body of /metrics in the format that accept names.
func scrape(t testing.TB, h http.Handler, accept string) (body, contentType string) {
	t.Helper()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String(), w.Header().Get("Content-Type")
}

// TestMetrics scrapes a server with something to show of every metric.
func TestMetrics(t *testing.T) {
	o := newOptions(t)
	o.MaxStreams = 10
	publish(t, o.Hub, "movie")
	publish(t, o.Hub, "lost").End(stream.Lost)
	for range 3 {
		join(t, o.Hub, "movie", "flv").ObserveProgress(100, 0, 0, time.Now())
	}
	join(t, o.Hub, "movie", "hls").ObserveBytes(50, 5)
	_, _ = o.Hub.Publish(t.Context(), domain.Name{App: "live", Room: "movie"}, stream.PublishOptions{})
	_, _ = o.Authorizer.Authorize(t.Context(), domain.AuthRequest{Action: domain.Play})
	_ = o.AdminAuth.Authorize(httptest.NewRequest("GET", "http://localhost/", nil), auth.Access{Rights: auth.Admin})
	o.Events.Add(domain.Event{Type: domain.EventDenied})
	_, _ = o.Store.Room(t.Context(), "movie")
	defer o.Quality.Join(o.Quality.ID("player"), domain.Name{App: "live", Room: "movie"}, "ws", "").Leave()
	o.Quality.Report(&cmcd.Data{Session: "player", Stalls: 2, StallTime: 1500, Frames: 750, Dropped: 5, Latency: 800,
		StartDelay: 400, Errors: []string{"network"}})
	o.Quality.Report(&cmcd.Data{Session: "nobody"})

	body, contentType := scrape(t, NewHandler(o), "text/plain")
	if !strings.HasPrefix(contentType, "text/plain; version=0.0.4") {
		t.Errorf("content type %s", contentType)
	}
	for _, want := range []string{
		`livego_build_info{goversion="` + goVersion() + `",version="v1"} 1`, "livego_ready 1",
		`livego_streams{state="live"} 1`, `livego_streams{state="held"} 1`,
		"livego_stream_starts_total 2", "livego_stream_holds_total 1", "livego_stream_ends_total 0",
		`livego_stream_findings{code="no_video",severity="error"} 0`,
		`livego_publishers{proto="rtmp"} 1`, `livego_publisher_received_bytes_total{proto="rtmp"} 200`,
		`livego_viewers{proto="flv"} 3`, `livego_viewers{proto="hls"} 1`, `livego_viewer_joins_total{proto="flv"} 3`,
		`livego_viewer_sent_bytes_total{proto="flv"} 300`, `livego_viewer_sent_bytes_total{proto="hls"} 55`,
		`livego_viewer_delay_seconds_bucket{proto="flv",le="0.02"} 3`, `livego_viewer_delay_seconds_count{proto="flv"} 3`,
		`livego_viewer_first_frame_seconds_bucket{proto="flv",le="+Inf"} 3`,
		`livego_viewer_first_frame_seconds_count{proto="hls"} 1`,
		`livego_player_reports_total{result="used"} 1`, `livego_player_reports_total{result="refused"} 1`,
		`livego_player_reports_total{result="limited"} 0`, `livego_player_sessions_total{proto="ws"} 1`,
		`livego_player_stalls_total{proto="ws"} 2`, `livego_player_stalled_seconds_total{proto="ws"} 1.5`,
		`livego_player_frames_total{proto="ws"} 750`, `livego_player_dropped_frames_total{proto="ws"} 5`,
		`livego_player_errors_total{code="network",proto="ws"} 1`, `livego_player_errors_total{code="other",proto="ws"} 0`,
		`livego_player_start_seconds_bucket{proto="ws",le="0.5"} 1`, `livego_player_delay_seconds_count{proto="ws"} 1`,
		`livego_refusals_total{action="publish",reason="conflict"} 1`,
		`livego_refusals_total{action="play",reason="token_expired"} 1`,
		`livego_refusals_total{action="manage",reason="denied"} 1`,
		`livego_events_total{type="denied"} 1`, `livego_events_total{type="stream.started"} 0`,
		`livego_connections_limited_total{listener="public",reason="descriptors"} 0`,
		`livego_recordings{state="stalled"} 0`, `livego_relays{direction="push",state="failed"} 0`,
		`livego_webhook_failures_total{hook="on_play"} 0`, "livego_webhook_queue_age_seconds 0",
		"livego_store_ready 1", `livego_store_operation_duration_seconds_count{operation="room"} 1`,
		`livego_stream_up{app="live",room="lost"} 0`, `livego_stream_up{app="live",room="movie"} 1`,
		`livego_stream_viewers{app="live",proto="flv",room="movie"} 3`,
		`livego_stream_received_bytes_total{app="live",room="movie"} 100`, "livego_streams_without_series 0",
	} {
		if !strings.Contains(body, "\n"+want+"\n") {
			t.Errorf("no sample %s", want)
		}
	}
	if strings.Contains(body, `livego_viewer_delay_seconds_count{proto="hls"}`) {
		t.Error("viewers of HLS have a delay")
	}
	for _, f := range table {
		if !strings.Contains(body, "\n# TYPE "+f.name+" "+string(f.kind)+"\n") {
			t.Errorf("no %s %s", f.kind, f.name)
		}
	}
	for _, name := range []string{"process_cpu_seconds_total", "go_goroutines"} {
		if !strings.Contains(body, "\n"+name+" ") {
			t.Errorf("no %s", name)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}

	body, contentType = scrape(t, NewHandler(o), "application/openmetrics-text;version=1.0.0")
	if !strings.HasPrefix(contentType, "application/openmetrics-text") || !strings.HasSuffix(body, "\n# EOF\n") ||
		!strings.Contains(body, "\nlivego_stream_starts_total 2.0\n") {
		t.Errorf("OpenMetrics: %s\n%s", contentType, body)
	}
}

// TestUnavailableParts scrapes a server that cannot serve, without the parts that may be off.
func TestUnavailableParts(t *testing.T) {
	o := newOptions(t)
	o.Outbox, o.Ready = nil, func() error { return context.Canceled }
	o.Store = measured.New(unavailable{o.Store})
	body, _ := scrape(t, NewHandler(o), "")
	for _, want := range []string{"\nlivego_ready 0\n", "\nlivego_store_ready 0\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("no sample %q", want)
		}
	}
	for _, not := range []string{"livego_webhook_queue", "livego_stream_up"} {
		if strings.Contains(body, not) {
			t.Errorf("a sample of %s", not)
		}
	}
}

type unavailable struct{ domain.Store }

func (unavailable) Ready() error { return domain.Errorf(domain.Unavailable, "down") }

// TestSeriesAreBounded scrapes servers with few and many streams: the names of streams make series
// only up to MaxStreams, of those that started first.
func TestSeriesAreBounded(t *testing.T) {
	series := func(streams, most int) (lines []string) {
		o := newOptions(t)
		o.MaxStreams = most
		for i := range streams {
			publish(t, o.Hub, fmt.Sprintf("room%d", streams-i)) // the first has the last name
			join(t, o.Hub, fmt.Sprintf("room%d", streams-i), "flv").ObserveBytes(1, 0)
		}
		body, _ := scrape(t, NewHandler(o), "")
		for s := bufio.NewScanner(strings.NewReader(body)); s.Scan(); {
			if strings.HasPrefix(s.Text(), "livego_") {
				lines = append(lines, s.Text())
			}
		}
		return lines
	}
	few, many := series(1, 0), series(300, 0)
	if len(few) != len(many) || slices.ContainsFunc(many, func(s string) bool { return strings.Contains(s, "room=") }) {
		t.Errorf("%d series of one stream and %d of many", len(few), len(many))
	}
	limited := series(300, 2)
	if !slices.Contains(limited, "livego_streams_without_series 298") ||
		!slices.Contains(limited, `livego_stream_viewers{app="live",proto="flv",room="room300"} 1`) ||
		!slices.Contains(limited, `livego_stream_viewers{app="live",proto="flv",room="room299"} 1`) ||
		len(limited) != len(few)+1+2*5 {
		t.Errorf("%d series with two streams of 300", len(limited))
	}
}

// newLoadedOptions returns a server with streams and viewers.
func newLoadedOptions(t testing.TB, streams, viewers int) Options {
	o := newOptions(t)
	for i := range streams {
		publish(t, o.Hub, fmt.Sprint("room", i))
	}
	for i := range viewers {
		proto := []string{"rtmp", "flv", "ws", "hls"}[i%4]
		join(t, o.Hub, fmt.Sprint("room", i/4%streams), proto).ObserveProgress(1, 1, 0, time.Now())
	}
	return o
}

// TestScrapeDoesNotDependOnViewers compares the memory that a scrape takes with few and with many
// viewers: it reads none of them.
func TestScrapeDoesNotDependOnViewers(t *testing.T) {
	cost := func(viewers int) float64 {
		o := newLoadedOptions(t, 10, viewers)
		h := NewHandler(o)
		return testing.AllocsPerRun(10, func() { scrape(t, h, "") })
	}
	if few, many := cost(40), cost(4000); many > 1.1*few {
		t.Errorf("a scrape allocates %v times with 40 viewers, and %v times with 4,000", few, many)
	}
}

// BenchmarkScrape is a scrape of a server with 1,000 streams and 10,000 viewers.
func BenchmarkScrape(b *testing.B) {
	for _, most := range []int{0, 200} {
		b.Run(fmt.Sprint("metrics_streams=", most), func(b *testing.B) {
			o := newLoadedOptions(b, 1000, 10_000)
			o.MaxStreams = most
			h := NewHandler(o)
			b.ReportAllocs()
			for b.Loop() {
				scrape(b, h, "")
			}
		})
	}
}
