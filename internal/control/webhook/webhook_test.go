package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"livego/internal/domain"
	"livego/internal/media"
	"livego/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "the secret of a test"

// checkSigned verifies the documented signature of a request, like a receiver.
func checkSigned(r *http.Request, body []byte) error {
	m := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(m, "%s.%s.%s", r.Header.Get("Livego-Id"), r.Header.Get("Livego-Timestamp"), body)
	if got, want := r.Header.Get("Livego-Signature"), "v1="+hex.EncodeToString(m.Sum(nil)); got != want {
		return fmt.Errorf("signature %s, want %s", got, want)
	}
	var at int64
	if _, err := fmt.Sscan(r.Header.Get("Livego-Timestamp"), &at); err != nil ||
		time.Since(time.Unix(at, 0)).Abs() > time.Minute {
		return fmt.Errorf("time %s", r.Header.Get("Livego-Timestamp"))
	}
	return nil
}

// authorize asks g about r, which has a valid stream key.
func authorize(t *testing.T, g *Authorizer, r domain.AuthRequest) (domain.Grant, error) {
	t.Helper()
	grant := domain.Grant{Name: domain.Name{App: r.App, Room: "movie"}, Key: domain.KeyRef{ID: "k1", Generation: 1}}
	return g.Authorize(t.Context(), r, grant)
}

// TestAuthorizerResponses tries valid and invalid responses of a webhook.
func TestAuthorizerResponses(t *testing.T) {
	const key = "k3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3y"
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		room   string // the granted room; "" for a refusal
		kind   domain.Kind
		reason string
	}{
		{"allowed", respond(200, `{"allow":true}`), "movie", 0, ""},
		{"allowed, with unknown fields", respond(200, `{"allow":true,"x":1}`), "movie", 0, ""},
		{"another room", respond(200, `{"allow":true,"room":"other"}`), "other", 0, ""},
		{"refused", respond(200, `{"allow":false}`), "", domain.Denied, "refused by the operator"},
		{"refused with a long reason", respond(200, `{"allow":false,"reason":"`+strings.Repeat("x", maxReason-1)+`é"}`), "",
			domain.Denied, strings.Repeat("x", maxReason-1)},
		{"refused with a key in a long reason",
			respond(200, `{"allow":false,"reason":"`+strings.Repeat("x ", 90)+strings.Repeat("kEy1", 12)+`"}`), "",
			domain.Denied, strings.Repeat("x ", 90)},
		{"refused with a reason", respond(200, `{"allow":false,"reason":"not on Mondays"}`), "", domain.Denied,
			"not on Mondays"},
		{"status 403", respond(403, ``), "", domain.Denied, "refused"},
		{"invalid room", respond(200, `{"allow":true,"room":"../x"}`), "", domain.Unavailable,
			"did not return a valid response"},
		{"allow is text", respond(200, `{"allow":"yes"}`), "", domain.Unavailable, "did not return a valid response"},
		{"allow is a number", respond(200, `{"allow":1}`), "", domain.Unavailable, "did not return a valid response"},
		{"empty body", respond(200, ``), "", domain.Unavailable, "did not return a valid response"},
		{"no allow", respond(200, `{}`), "", domain.Unavailable, "did not return a valid response"},
		{"allow is null", respond(200, `{"allow":null}`), "", domain.Unavailable, "did not return a valid response"},
		{"invalid JSON", respond(200, `ok`), "", domain.Unavailable, "did not return a valid response"},
		{"two JSON values", respond(200, `{"allow":true}{"allow":false}`), "", domain.Unavailable,
			"did not return a valid response"},
		{"status 201", respond(201, `{"allow":true}`), "", domain.Unavailable, "did not return a valid response"},
		{"status 500", respond(500, `{"allow":true}`), "", domain.Unavailable, "did not return a valid response"},
		{"response of 10 MB", respond(200, `{"allow":true}`+strings.Repeat(" ", 10<<20)), "", domain.Unavailable,
			"did not return a valid response"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "", domain.Unavailable, "did not return a valid response"},
		{"slow response", func(w http.ResponseWriter, r *http.Request) {
			for range 100 {
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		}, "", domain.Unavailable, "did not return a valid response"},
		{"closed connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "",
			domain.Unavailable,
			"did not return a valid response"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got decisionRequest
			var signed error
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				signed = checkSigned(r, body)
				if strings.Contains(string(body), key) {
					signed = fmt.Errorf("the request contains the key: %s", body)
				}
				json.Unmarshal(body, &got)
				c.answer(w, r)
			}))
			timeout := 10 * time.Second // for a busy machine
			if c.name == "slow response" {
				timeout = 500 * time.Millisecond
			}
			g := NewAuthorizer(AuthorizerOptions{OnPublish: srv.URL + "/?x=s3cret", Secret: secret, Timeout: timeout,
				Log: slog.New(slog.DiscardHandler)})
			defer g.client.http.CloseIdleConnections()
			start := time.Now()
			grant, err := authorize(t, g, domain.AuthRequest{Action: domain.Publish, App: "live", Name: key, Token: "t0k3n",
				Proto: "rtmp", Remote: "192.0.2.1:1"})
			if took := time.Since(start); took > timeout+1500*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			srv.Close() // waits for the handler
			if c.room != "" && (err != nil || grant.Name.Room != c.room || grant.Key.ID != "k1") {
				t.Errorf("%+v, %v", grant, err)
			}
			if c.room == "" && (domain.KindOf(err) != c.kind || !strings.Contains(domain.Reason(err), c.reason) ||
				grant != domain.Grant{}) {
				t.Errorf("%+v, %v (%v)", grant, err, domain.KindOf(err))
			}
			if !utf8.ValidString(domain.Reason(err)) {
				t.Errorf("the reason is not valid UTF-8: %q", domain.Reason(err))
			}
			if signed != nil {
				t.Error(signed)
			}
			if want := (decisionRequest{Action: "publish", App: "live", Room: "movie", Proto: "rtmp", Remote: "192.0.2.1:1",
				Role: "primary", KeyID: "k1"}); got != want {
				t.Errorf("request %+v, want %+v", got, want)
			}
		})
	}
	down := NewAuthorizer(AuthorizerOptions{OnPublish: "http://127.0.0.1:1/s3cret", Secret: secret, Timeout: time.Second,
		Log: slog.New(slog.DiscardHandler)})
	if _, err := authorize(t, down,
		domain.AuthRequest{Action: domain.Publish, App: "live"}); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("webhook down: %v", err)
	}
	if _, err := authorize(t, down, domain.AuthRequest{Action: domain.Play, App: "live"}); err != nil {
		t.Errorf("play without a webhook: %v", err)
	}
	for action, want := range map[domain.Action]uint64{domain.Publish: 1, domain.Play: 0} {
		if s := down.Statistics(action); s.Failed != want || s.Duration.Count() != want {
			t.Errorf("%v: %+v", action, s)
		}
	}
}

// TestAuthorizerLimitsParallelRequests starts more requests than may run at once: all are answered.
func TestAuthorizerLimitsParallelRequests(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		respond(200, `{"allow":true}`)(w, r)
		mu.Lock()
		now--
		mu.Unlock()
	}))
	defer srv.Close()
	g := NewAuthorizer(AuthorizerOptions{OnPlay: srv.URL, Secret: secret, Timeout: 20 * time.Second,
		Log: slog.New(slog.DiscardHandler)})
	defer g.client.http.CloseIdleConnections()
	var wg sync.WaitGroup
	for range 5 * maxRequests {
		wg.Go(func() {
			if _, err := authorize(t, g, domain.AuthRequest{Action: domain.Play, App: "live"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most > maxRequests {
		t.Errorf("%d concurrent requests, more than %d", most, maxRequests)
	}
}

func respond(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, text)
	}
}

// A receiver records the events that it receives.
type receiver struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	fail    int // how many requests to answer with 500
	events  []Event
	changed chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, changed: make(chan struct{}, 1)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	if err := checkSigned(req, body); err != nil {
		r.t.Error(err)
	}
	var list struct{ Events []Event }
	if err := json.Unmarshal(body, &list); err != nil || len(list.Events) == 0 || len(list.Events) > maxBatch {
		r.t.Errorf("%v: %s", err, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail > 0 {
		r.fail--
		w.WriteHeader(500)
		return
	}
	for _, e := range list.Events {
		// An event that was delivered while the server stopped may be delivered again.
		if !slices.ContainsFunc(r.events, func(had Event) bool { return had.ID == e.ID }) {
			r.events = append(r.events, e)
		}
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// await waits for n events.
func (r *receiver) await(n int) []Event {
	r.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		events := slices.Clone(r.events)
		r.mu.Unlock()
		if len(events) >= n {
			return events
		}
		select {
		case <-r.changed:
		case <-timeout:
			r.t.Fatalf("%d events of %d", len(events), n)
		}
	}
}

// startOutbox runs an Outbox until stop is called.
func startOutbox(t *testing.T, hub *stream.Hub, dir, url string) (stop func()) {
	t.Helper()
	o, err := OpenOutbox(hub, OutboxOptions{URL: url, Secret: secret, Dir: dir, Viewers: true, Timeout: time.Second,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

func types(events []Event) (list []string) {
	for _, e := range events {
		list = append(list, e.Type)
	}
	return list
}

// TestOutboxDeliversInOrder checks the order of events over failures of the receiver and a restart.
func TestOutboxDeliversInOrder(t *testing.T) {
	hub := stream.NewHub(stream.Options{Hold: time.Hour})
	defer hub.Close()
	dir := t.TempDir()
	r := newReceiver(t)
	stop := startOutbox(t, hub, dir, r.URL)
	name := domain.Name{App: "live", Room: "movie"}
	p, err := hub.Publish(t.Context(), name, stream.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := hub.Join(name, stream.ViewerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	awaitTypes(t, r, "stream.started", "viewer.joined")
	r.mu.Lock()
	r.fail = 2
	r.mu.Unlock()
	frame := &media.Frame{Track: &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100}, Arrived: time.Now(),
		Payload: []byte{1}}
	if err := p.Write(frame); err != nil {
		t.Fatal(err)
	}
	p.End(stream.Lost)
	v.Leave()
	if p, err = hub.Publish(t.Context(), name, stream.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitTypes(t, r, "stream.started", "viewer.joined", "stream.held", "viewer.left", "stream.resumed")

	// Without a receiver events wait, also over a restart.
	r.mu.Lock()
	r.fail = 1 << 30
	r.mu.Unlock()
	p.End(stream.Clean)
	stop()
	r.mu.Lock()
	r.fail = 0
	r.mu.Unlock()
	startOutbox(t, hub, dir, r.URL)
	awaitTypes(t, r, "stream.started", "viewer.joined", "stream.held", "viewer.left", "stream.resumed", "stream.ended")
	ids := map[string]bool{}
	for _, e := range r.await(6) {
		if ids[e.ID] || e.ID == "" || e.At.IsZero() {
			t.Errorf("event %+v", e)
		}
		ids[e.ID] = true
	}
}

// openOutbox opens an Outbox that does not run.
func openOutbox(t *testing.T, hub *stream.Hub, dir, url string) *Outbox {
	t.Helper()
	o, err := OpenOutbox(hub, OutboxOptions{URL: url, Secret: secret, Dir: dir, Timeout: time.Second,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestRelayFailed checks an event that does not come from the hub, also when it is added just
// before the end.
func TestRelayFailed(t *testing.T) {
	hub := stream.NewHub(stream.Options{})
	defer hub.Close()
	dir, r := t.TempDir(), newReceiver(t)
	o := openOutbox(t, hub, dir, r.URL)
	o.RelayFailed(domain.RelayStatus{Direction: domain.Pull, App: "live", Room: "movie", URL: "rtmp://h/a/***",
		Error: "away", Attempts: 3, Since: time.Now()})
	ended, end := context.WithCancel(t.Context())
	end()
	o.Run(ended)
	startOutbox(t, hub, dir, r.URL)
	got := r.await(1)[0]
	if want := (Relay{"pull", "rtmp://h/a/***", "away", 3}); got.Type != "relay.failed" || got.Stream != "live/movie" ||
		got.Relay == nil || *got.Relay != want {
		t.Errorf("%+v %+v, want %+v", got, got.Relay, want)
	}
}

func awaitTypes(t *testing.T, r *receiver, want ...string) {
	t.Helper()
	if got := types(r.await(len(want))); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func event(i int) Event {
	return Event{ID: fmt.Sprint(i), Type: "stream.started", Stream: "live/movie", At: time.Now()}
}

// TestLiveEventsRepeat checks that stream.live is repeated for a live stream, and not for one that
// is held or has ended.
func TestLiveEventsRepeat(t *testing.T) {
	hub := stream.NewHub(stream.Options{Hold: time.Hour})
	defer hub.Close()
	r := newReceiver(t)
	o, err := OpenOutbox(hub, OutboxOptions{
		URL: r.URL, Secret: secret, Dir: t.TempDir(), Timeout: time.Second, AliveInterval: 100 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	publish := func(room string) *stream.Publisher {
		p, err := hub.Publish(t.Context(), domain.Name{App: "live", Room: room}, stream.PublishOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	publish("movie")
	awaitTypes(t, r, "stream.started", typeLive, typeLive)
	held := publish("held")
	frame := &media.Frame{Track: &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100}, Arrived: time.Now(),
		Payload: []byte{1}}
	if err := held.Write(frame); err != nil {
		t.Fatal(err)
	}
	held.End(stream.Lost)
	seen := r.await(len(r.await(0)) + 5)
	at := slices.IndexFunc(seen, func(e Event) bool { return e.Type == "stream.held" })
	for at < 0 {
		seen = r.await(len(seen) + 1)
		at = slices.IndexFunc(seen, func(e Event) bool { return e.Type == "stream.held" })
	}
	for _, e := range r.await(at + 6)[at:] {
		if e.Type == typeLive && e.Stream != "live/movie" {
			t.Errorf("stream.live for %s", e.Stream)
		}
	}
}

// TestQueueSurvivesDamage checks which events are left after a crash and a damaged line.
func TestQueueSurvivesDamage(t *testing.T) {
	dir := t.TempDir()
	b, err := openQueue(dir)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 10 {
		if err := b.add([]Event{event(i)}); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(i))
	}
	take := func(n int) (got []string) {
		t.Helper()
		list, end, err := b.next(n, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			got = append(got, e.ID)
		}
		if err := b.markDelivered(end); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := take(4); !slices.Equal(got, want[:4]) {
		t.Errorf("delivered %v", got)
	}
	b.close()
	// A partial line at the end, and a changed one.
	path := b.path(b.segments[0])
	data, _ := os.ReadFile(path)
	data = []byte(strings.Replace(string(data), `"id":"6"`, `"id":"x"`, 1) + `12345678 {"id":"half`)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err = openQueue(dir); err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if err := b.add([]Event{event(10)}); err != nil {
		t.Fatal(err)
	}
	if got := take(100); !slices.Equal(got, []string{"4", "5", "7", "8", "9", "10"}) || b.resetLost() != 1 {
		t.Errorf("after a crash: %v", got)
	}
	old := event(11)
	old.At = time.Now().Add(-maxEventAge)
	if err := b.add([]Event{old, event(12)}); err != nil {
		t.Fatal(err)
	}
	if got := take(100); !slices.Equal(got, []string{"12"}) {
		t.Errorf("with an expired event: %v", got)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*"+segmentExt)); len(files) > 2 {
		t.Errorf("delivered segments are left: %v", files)
	}
}

// TestQueueIsBounded fills the queue: events of low priority are dropped first, then the oldest.
func TestQueueIsBounded(t *testing.T) {
	b, err := openQueue(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	b.size[-1] = maxQueueSize / 2 // pretends that the queue is half full
	low := event(1)
	low.Type = "viewer.joined"
	if err := b.add([]Event{low, event(2)}); err != nil {
		t.Fatal(err)
	}
	if err := b.add([]Event{low, event(3)}); err != nil || b.resetLost() != 1 {
		t.Errorf("an event of low priority was added to a queue that is more than half full: %v", err)
	}
	if list, _, _ := b.next(10, time.Now()); len(list) != 3 {
		t.Errorf("%d events, want 3", len(list))
	}
	delete(b.size, -1)
	if err := b.startSegment(b.segments[len(b.segments)-1] + 1); err != nil {
		t.Fatal(err)
	}
	b.size[b.segments[0]] = maxQueueSize // pretends that the oldest segment is the whole queue
	if err := b.add([]Event{event(4)}); err != nil {
		t.Fatal(err)
	}
	if list, _, _ := b.next(10, time.Now()); len(list) != 1 || list[0].ID != "4" || b.resetLost() != 3 {
		t.Errorf("left in a full queue: %v", list)
	}
}

// TestViewerEventsAreDroppedFirst fills half of the queue with events of viewers and then all of it
// with events of streams: those of viewers are dropped, and all of streams are delivered.
func TestViewerEventsAreDroppedFirst(t *testing.T) {
	b, err := openQueue(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	const perAdd = 4000
	padding := strings.Repeat("x", 500)
	batch := func(typ string) (list []Event) {
		for range perAdd {
			e := event(1)
			e.Type, e.Stream = typ, padding
			list = append(list, e)
		}
		return list
	}
	viewers, streams := 0, 0
	for b.totalSize() < maxQueueSize/2 {
		if err := b.add(batch("viewer.joined")); err != nil {
			t.Fatal(err)
		}
		viewers += perAdd
	}
	for b.totalSize() < maxQueueSize-8<<20 || streams*600 < maxQueueSize*3/4 {
		if err := b.add(batch("stream.held")); err != nil {
			t.Fatal(err)
		}
		streams += perAdd
	}
	lost := b.resetLost()
	got := map[string]int{}
	for {
		list, end, err := b.next(maxBatch*10, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			got[e.Type]++
		}
		if err := b.markDelivered(end); err != nil {
			t.Fatal(err)
		}
	}
	if got["stream.held"] != streams || lost == 0 || lost+got["viewer.joined"]+b.resetLost() != viewers {
		t.Errorf("of %d viewer events and %d stream events %v were delivered, %d were counted as lost", viewers, streams, got,
			lost)
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{"", "00000000 {}", `5d1b2f2e {"id":"1"}`, "xxxxxxxx {}", strings.Repeat("0", 100)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseLine(b); ok && !json.Valid(b[9:]) {
			t.Errorf("%q is %+v", b, e)
		}
	})
}

// TestRecordingFinished checks the events of closed files, the last of them added while the server
// stops.
func TestRecordingFinished(t *testing.T) {
	hub := stream.NewHub(stream.Options{})
	defer hub.Close()
	dir, r := t.TempDir(), newReceiver(t)
	o := openOutbox(t, hub, dir, r.URL)
	for range maxExtraEvents + 5 { // more than fit
		o.RecordingFinished(domain.Recording{})
	}
	if n := o.extraLost.Load(); n != 5 {
		t.Errorf("%d events lost, want 5", n)
	}
	for range maxExtraEvents {
		<-o.extra
	}
	o.RecordingFinished(domain.Recording{
		Name: domain.Name{App: "live", Room: "movie"}, File: "live/movie_1.flv", Started: time.Unix(1, 0).UTC(), Bytes: 2,
		Duration: 3500 * time.Millisecond,
		Gaps:     4, Reason: domain.DiskFailed, Error: strings.Repeat("x", 1000),
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.Run(ctx)
	startOutbox(t, hub, dir, r.URL)
	e := r.await(1)[0]
	want := Recording{File: "live/movie_1.flv", Started: time.Unix(1, 0).UTC(), Bytes: 2, Duration: 3.5, Gaps: 4,
		Reason: "failed", Error: strings.Repeat("x", 128)}
	if e.Type != "recording.finished" || e.Stream != "live/movie" || e.Recording == nil || *e.Recording != want {
		t.Errorf("%+v %+v", e, e.Recording)
	}
}

// TestOutboxStatistics has events wait for a receiver, over a restart, and then be delivered.
func TestOutboxStatistics(t *testing.T) {
	hub := stream.NewHub(stream.Options{})
	defer hub.Close()
	dir, r := t.TempDir(), newReceiver(t)
	o := openOutbox(t, hub, dir, r.URL)
	o.RelayFailed(domain.RelayStatus{Direction: domain.Pull, App: "live", Room: "movie", Since: time.Now()})
	ended, end := context.WithCancel(t.Context())
	end()
	o.Run(ended)
	waiting := o.Statistics()
	if waiting.QueueBytes == 0 || waiting.Delivered != 0 {
		t.Errorf("after a run without a receiver: %+v", waiting)
	}
	o = openOutbox(t, hub, dir, r.URL)
	if s := o.Statistics(); s.QueueBytes != waiting.QueueBytes {
		t.Errorf("after a restart: %+v, want the %d bytes from before", s, waiting.QueueBytes)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Run(ctx)
	}()
	for o.Statistics().QueueBytes > 0 {
		<-time.After(time.Millisecond)
	}
	stop()
	<-done
	if s := o.Statistics(); s.QueueBytes != 0 || s.Delivered != 1 || s.Failed != 0 || s.Duration.Count() != 1 ||
		s.Lost != 0 || !s.WaitingSince.IsZero() {
		t.Errorf("at the end: %+v", s)
	}
}

// TestNewOptions sends events to another receiver after a change of the options, also the one that the
// first receiver has not accepted.
func TestNewOptions(t *testing.T) {
	hub := stream.NewHub(stream.Options{})
	defer hub.Close()
	first, second := newReceiver(t), newReceiver(t)
	first.fail = 1 << 30
	o := openOutbox(t, hub, t.TempDir(), first.URL)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	name := domain.Name{App: "live", Room: "movie"}
	if _, err := hub.Publish(t.Context(), name, stream.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	join := func() {
		v, err := hub.Join(name, stream.ViewerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		v.Leave()
	}
	join() // no event
	o.SetOptions(OutboxOptions{URL: second.URL, Secret: secret, Timeout: 2 * time.Second, Viewers: true,
		Log: slog.New(slog.DiscardHandler)})
	join()
	awaitTypes(t, second, "stream.started", "viewer.joined", "viewer.left")
}
