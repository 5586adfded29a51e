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

const hookSecret = "a secret that signs the webhooks of a test"

// A webhookReceiver is a program of the operator that receives webhooks. It refuses the room
// "forbidden".
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

func (o *webhookReceiver) received() (requests, events string, failure error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.requests, ", "), strings.Join(o.events, ", "), o.err
}

// TestWebhooks checks that livego asks the webhook before each publish and play, and sends events
// of streams.
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
		t.Error("it publishes although the webhook refuses")
	}
	if status, body, err := httpGet(t.Context(), s.FLV("forbidden"), "", true); status != 403 ||
		!strings.Contains(body, "not this one") {
		t.Errorf("watching a room that the webhook refuses: %d %s %v", status, body, err)
	}
	push := s.Push(src.File(t), "movie", "-stream_loop", "-1")
	s.AwaitLive("movie")
	if status, body, err := httpGet(t.Context(), s.FLV("movie"), "", false); status != 200 {
		t.Errorf("watching a room that the webhook allows: %d %s %v", status, body, err)
	}
	// Events are delivered while the stream is live.
	harness.Eventually(t, patience, "stream.started", func() error {
		if _, events, failure := program.received(); events != "stream.started live/movie" || failure != nil {
			return fmt.Errorf("%q, %v", events, failure)
		}
		return nil
	})
	srv.Close() // without an answer, connected clients stay and new ones are refused
	if s.Push(src.File(t), "other").Wait(patience) == 0 {
		t.Error("it publishes without an answer of the webhook")
	}
	if status, _, err := httpGet(t.Context(), s.FLV("movie"), "", true); status != 503 {
		t.Errorf("watching without an answer of the webhook: %d %v", status, err)
	}
	if push.Ended() {
		t.Errorf("the encoder was disconnected:\n%s", push.Stderr())
	}
	requests, events, failure := program.received()
	if failure != nil {
		t.Error(failure)
	}
	if requests != "publish forbidden, play forbidden, publish movie, play movie" {
		t.Errorf("webhook requests: %s", requests)
	}
	if events != "stream.started live/movie" {
		t.Errorf("events: %s", events)
	}
}

// TestWebhookEventsSurviveKill checks that a later process delivers the events of one that was
// killed.
func TestWebhookEventsSurviveKill(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	program := &webhookReceiver{}
	port := harness.FreePorts(t, 1)[0]
	flags := []string{fmt.Sprintf("--hook.events=http://127.0.0.1:%d/events", port), "--hook.viewers"}
	env := []string{"LIVEGO_HOOK_SECRET=" + hookSecret}
	s := harness.Start(t, harness.Options{Flags: flags, Env: env})
	load(t, sample.AV).push(s, t, "movie").WaitOK(patience)
	awaitTextOnDisk(t, s.DataDir, "stream.ended") // the stream ends after ffmpeg
	s.Kill()
	srv := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Handler: program}
	go srv.ListenAndServe()
	defer srv.Close()
	harness.Start(t, harness.Options{Flags: flags, Env: env, DataDir: s.DataDir})
	harness.Eventually(t, 20*time.Second, "events of the server that was killed", func() error {
		if _, events, failure := program.received(); events != "stream.started live/movie, stream.ended live/movie" ||
			failure != nil {
			return fmt.Errorf("%q, %v", events, failure)
		}
		return nil
	})
}

// TestPlayWebhookRunsOnceForAbsentRoom has a player request rooms that are not live, and a room
// that is refused, several times. The webhook is asked once for each room, and again when the room
// is live.
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
	for ; rounds < 50 && time.Since(start) < 3*time.Second; rounds++ { // answers are kept for 5 s
		for _, url := range []string{s.FLV("absent"), s.FLV("forbidden")} {
			want := map[string]int{s.FLV("absent"): 404, s.FLV("forbidden"): 403}[url]
			if status, body, err := httpGet(t.Context(), url, "", true); status != want {
				t.Fatalf("%s: %d %s %v", url, status, body, err)
			}
		}
	}
	requests, _, failure := program.received()
	if rounds < 2 || requests != "play absent, play forbidden" || failure != nil {
		t.Errorf("%d rounds: webhook requests %q, %v", rounds, requests, failure)
	}
	s.Push(load(t, sample.AV).File(t), "absent", "-stream_loop", "-1")
	s.AwaitLive("absent")
	if status, body, err := httpGet(t.Context(), s.FLV("absent"), "", false); status != 200 {
		t.Errorf("watching the live room: %d %s %v", status, body, err)
	}
	if requests, _, _ := program.received(); requests != "play absent, play forbidden, play absent" {
		t.Errorf("after watching the live room: webhook requests %q", requests)
	}
}

// awaitTextOnDisk waits until a file below dir contains text.
func awaitTextOnDisk(t *testing.T, dir, text string) {
	t.Helper()
	harness.Eventually(t, patience, text+" on disk", func() error {
		found := false
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil // a file that was just renamed
			}
			b, _ := os.ReadFile(path)
			found = found || bytes.Contains(b, []byte(text))
			return nil
		})
		if err == nil && !found {
			err = errors.New("no file contains it")
		}
		return err
	})
}
