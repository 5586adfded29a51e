package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

const hookSecret = "a secret that signs the hooks of a test"

// webhookReceiver is what an operator has at the other end of the hooks. It refuses the room "forbidden".
type webhookReceiver struct {
	mu       sync.Mutex
	requests []string // "publish movie"
	events   []string // "stream.started live/movie"
	err      error
}

func (o *webhookReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m := hmac.New(sha256.New, []byte(hookSecret))
	fmt.Fprintf(m, "%s.%s.%s", r.Header.Get("Livego-Id"), r.Header.Get("Livego-Timestamp"), body)
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Header.Get("Livego-Signature") != "v1="+hex.EncodeToString(m.Sum(nil)) {
		o.err = fmt.Errorf("not signed as documented: %v %s", r.Header, body)
	}
	if r.URL.Path == "/events" {
		var list struct {
			Events []struct{ Type, Stream string }
		}
		if err := json.Unmarshal(body, &list); err != nil {
			o.err = err
		}
		for _, e := range list.Events {
			o.events = append(o.events, e.Type+" "+e.Stream)
		}
		return
	}
	var q struct{ Action, Room string }
	if err := json.Unmarshal(body, &q); err != nil {
		o.err = err
	}
	o.requests = append(o.requests, q.Action+" "+q.Room)
	json.NewEncoder(w).Encode(map[string]any{"allow": q.Room != "forbidden", "reason": "not this one"})
}

func (o *webhookReceiver) received() (asked, events string, bad error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.requests, ", "), strings.Join(o.events, ", "), o.err
}

// TestWebhooks asks before publishing and playing, and tells of streams.
func TestWebhooks(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	program := &webhookReceiver{}
	srv := httptest.NewServer(program)
	defer srv.Close()
	s := harness.Start(t, harness.Options{
		Flags: []string{"--hook.on_publish=" + srv.URL + "/ask", "--hook.on_play=" + srv.URL + "/ask",
			"--hook.events=" + srv.URL + "/events"},
		Env: []string{"LIVEGO_HOOK_SECRET=" + hookSecret},
	})
	src := load(t, sample.AV)
	if s.Push(src.File(t), "forbidden").Wait(patience) == 0 {
		t.Error("it publishes though the hook says no")
	}
	if status, body, err := httpGet(t.Context(), s.FLV("forbidden"), "", true); status != 403 ||
		!strings.Contains(body, "not this one") {
		t.Errorf("watching what the hook forbids: %d %s %v", status, body, err)
	}
	push := s.Push(src.File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	if status, body, err := httpGet(t.Context(), s.FLV("movie"), "", false); status != 200 {
		t.Errorf("watching what it allows: %d %s %v", status, body, err)
	}
	// Events are brought while the stream plays.
	harness.Eventually(t, patience, "stream.started", func() error {
		if _, events, bad := program.received(); events != "stream.started live/movie" || bad != nil {
			return fmt.Errorf("%q, %v", events, bad)
		}
		return nil
	})
	srv.Close() // nobody is there any more: who is in stays in, nobody comes in
	if s.Push(src.File(t), "other").Wait(patience) == 0 {
		t.Error("it publishes without an answer")
	}
	if status, _, err := httpGet(t.Context(), s.FLV("movie"), "", true); status != 503 {
		t.Errorf("watching without an answer: %d %v", status, err)
	}
	if push.Ended() {
		t.Errorf("the encoder was disconnected:\n%s", push.Stderr())
	}
	asked, events, bad := program.received()
	if bad != nil {
		t.Error(bad)
	}
	if asked != "publish forbidden, play forbidden, publish movie, play movie" {
		t.Errorf("asked: %s", asked)
	}
	if events != "stream.started live/movie" {
		t.Errorf("events: %s", events)
	}
}

// TestWebhookEventsSurviveKill tells of a stream's end in a process that is started later.
func TestWebhookEventsSurviveKill(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	program := &webhookReceiver{}
	port := harness.FreePorts(t, 1)[0]
	flags := []string{fmt.Sprintf("--hook.events=http://127.0.0.1:%d/events", port), "--hook.viewers"}
	env := []string{"LIVEGO_HOOK_SECRET=" + hookSecret}
	s := harness.Start(t, harness.Options{Flags: flags, Env: env})
	load(t, sample.AV).push(s, t, "movie").WaitOK(patience)
	awaitTextOnDisk(t, s.DataDir, "stream.ended") // the end of ffmpeg is not yet that of the stream
	s.Kill()
	srv := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Handler: program}
	go srv.ListenAndServe()
	defer srv.Close()
	harness.Start(t, harness.Options{Flags: flags, Env: env, DataDir: s.DataDir})
	harness.Eventually(t, 20*time.Second, "events of the server that was killed", func() error {
		if _, events, bad := program.received(); events != "stream.started live/movie, stream.ended live/movie" ||
			bad != nil {
			return fmt.Errorf("%q, %v", events, bad)
		}
		return nil
	})
}

// TestPlayWebhookRunsOnceForAbsentRoom has a player ask again and again for rooms that are not
// live, and for one that is refused. The operator's program gets one question about each; as soon
// as a room is live it is asked again.
func TestPlayWebhookRunsOnceForAbsentRoom(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	program := &webhookReceiver{}
	srv := httptest.NewServer(program)
	defer srv.Close()
	s := harness.Start(t, harness.Options{
		Flags: []string{"--hook.on_play=" + srv.URL + "/ask"},
		Env:   []string{"LIVEGO_HOOK_SECRET=" + hookSecret},
	})
	start := time.Now()
	rounds := 0
	for ; rounds < 50 && time.Since(start) < 3*time.Second; rounds++ { // the moment for which an answer is kept is 5 s
		for _, url := range []string{s.FLV("absent"), s.FLV("forbidden")} {
			want := map[string]int{s.FLV("absent"): 404, s.FLV("forbidden"): 403}[url]
			if status, body, err := httpGet(t.Context(), url, "", true); status != want {
				t.Fatalf("%s: %d %s %v", url, status, body, err)
			}
		}
	}
	asked, _, bad := program.received()
	if rounds < 2 || asked != "play absent, play forbidden" || bad != nil {
		t.Errorf("%d rounds: asked %q, %v", rounds, asked, bad)
	}
	s.Push(load(t, sample.AV).File(t), "absent", "-stream_loop", "-1")
	s.AwaitLive("absent")
	if status, body, err := httpGet(t.Context(), s.FLV("absent"), "", false); status != 200 {
		t.Errorf("when it is live: %d %s %v", status, body, err)
	}
	if asked, _, _ := program.received(); asked != "play absent, play forbidden, play absent" {
		t.Errorf("when it is live: asked %q", asked)
	}
}

// awaitTextOnDisk waits until a file below dir holds text.
func awaitTextOnDisk(t *testing.T, dir, text string) {
	t.Helper()
	harness.Eventually(t, patience, text+" on disk", func() error {
		found := false
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil // a file that has just been renamed
			}
			b, _ := os.ReadFile(path)
			found = found || bytes.Contains(b, []byte(text))
			return nil
		})
		if err == nil && !found {
			err = errors.New("no file holds it")
		}
		return err
	})
}
