package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// allowLoopback allows relays to the other servers of a test.
const allowLoopback = "--relay_allow=127.0.0.1"

// controlRelay starts or stops a relay, and checks the answer.
func controlRelay(t *testing.T, s *harness.Server, direction, oper, room, target, shown string) {
	t.Helper()
	e := s.Call("/control/" + direction + "?oper=" + oper + "&app=live&name=" + room + "&url=" + url.QueryEscape(target))
	if want := "<h1>" + direction + " url " + oper + " " + shown + " ok</h1></br>"; e.Status != 200 || e.Text() != want {
		t.Fatalf("%s %s: %d %s, want %s", oper, direction, e.Status, e.Data, want)
	}
}

// A relayStatus is an entry of /api/v1/relays.
type relayStatus struct {
	ID, Direction, App, Room, URL, State, Error string
	Attempts                                    int
	Static, Persist                             bool
	Bytes                                       int64
}

// awaitRelay waits until want returns true for a relay of a room.
func awaitRelay(t *testing.T, s *harness.Server, room string, want func(relayStatus) bool) {
	t.Helper()
	harness.Eventually(t, patience, "relay of "+room, func() error {
		var list struct{ Relays []relayStatus }
		body := harness.Get(t, s.API("/api/v1/relays"))
		if err := json.Unmarshal(body, &list); err != nil {
			return err
		}
		for _, r := range list.Relays {
			if r.Room == room && want(r) {
				return nil
			}
		}
		return errors.New(string(body))
	})
}

// createRelay creates a push by /api/v1, and returns the response.
func createRelay(t *testing.T, s *harness.Server, room, target, more string) (status int, r relayStatus) {
	t.Helper()
	resp, body := request(t, http.MethodPost, s.API("/api/v1/relays"), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		r.Body = io.NopCloser(strings.NewReader(`{"direction":"push","app":"live","room":"` + room + `","url":"` + target +
			`"` + more + `}`))
	})
	if err := json.Unmarshal([]byte(body), &r); err != nil || strings.Contains(body, "s3cret") {
		t.Fatalf("%s %s, %v", resp.Status, body, err)
	}
	return resp.StatusCode, r
}

func isRunning(r relayStatus) bool { return r.State == "running" }

// awaitMoreFrames waits until a viewer has received 200 more frames.
func awaitMoreFrames(t *testing.T, viewer *harness.Process, what string) {
	t.Helper()
	n := strings.Count(viewer.Stdout(), "\n")
	harness.Eventually(t, patience, what, func() error {
		if viewer.Ended() {
			t.Fatalf("%s: the viewer has ended:\n%s", what, viewer.Stderr())
		}
		if more := strings.Count(viewer.Stdout(), "\n") - n; more < 200 {
			return fmt.Errorf("%d more frames", more)
		}
		return nil
	})
}

// TestRelayContent has one server push a stream to another and to nginx, and a third pull it by
// RTMP and by HTTP-FLV: all viewers get the same stream.
func TestRelayContent(t *testing.T) {
	harness.Need(t, "ffmpeg", "nginx")
	t.Parallel()
	a, b := harness.Start(t, harness.Options{Flags: []string{allowLoopback}}),
		harness.Start(t, harness.Options{Flags: []string{allowLoopback, "--publish_hold=1s"}})
	src := load(t, sample.AV)
	dir := t.TempDir()
	nginx := startNginx(t, "application there { live on; record all; record_path "+dir+"; }")

	controlRelay(t, a, "push", "start", "movie", b.RTMP(b.Key("pushed")), "rtmp://"+b.Addr("rtmp_addr")+"/live/***")
	controlRelay(t, a, "push", "start", "movie", "rtmp://"+nginx+"/there/movie", "rtmp://"+nginx+"/there/***")
	controlRelay(t, b, "pull", "start", "byrtmp", a.RTMP("movie"), "rtmp://"+a.Addr("rtmp_addr")+"/live/***")
	controlRelay(t, b, "pull", "start", "byflv", a.FLV("movie"), "http://"+a.Addr("httpflv_addr")+"/live/***")
	viewers := map[string]*harness.Process{}
	for what, address := range map[string]string{
		"pushed to livego": b.RTMP("pushed"), "pulled by RTMP": b.RTMP("byrtmp"), "pulled by HTTP-FLV": b.RTMP("byflv"),
	} {
		viewers[what] = watchRTMPEarly(t, address)
	}
	push := src.push(a, t, "movie")
	push.WaitOK(patience)
	for what, viewer := range viewers {
		check(t, what, src.packets, frames(t, viewer), mediacompare.Millisecond)
	}
	// it is complete a moment after the end of the stream
	harness.Eventually(t, patience, "the recording of nginx", func() error {
		f, err := os.Open(filepath.Join(dir, "movie.flv"))
		if err != nil {
			return err
		}
		defer f.Close()
		file, err := mediacompare.ReadFLV(f)
		if err != nil {
			return err
		}
		got, err := file.Packets()
		if err != nil {
			return err
		}
		m, err := mediacompare.Compare(src.packets, got, mediacompare.Millisecond)
		if err == nil && m.Video.Missing()+m.Audio.Missing() > 0 {
			err = fmt.Errorf("the end is missing: %+v", m)
		}
		return err
	})
	for _, room := range []string{"byrtmp", "byflv"} {
		awaitRelay(t, b, room, func(r relayStatus) bool { return r.Direction == "pull" && r.State != "running" })
	}
	controlRelay(t, a, "push", "stop", "movie", "rtmp://"+nginx+"/there/movie", "rtmp://"+nginx+"/there/***")
	if e := a.Call("/control/push?oper=stop&app=live&name=movie&url=" +
		url.QueryEscape("rtmp://"+nginx+"/there/movie")); e.Status != 404 {
		t.Errorf("second stop: %d %s", e.Status, e.Data)
	}
}

// restartServer starts a server in the place of one that was killed.
func restartServer(t *testing.T, s *harness.Server, flags ...string) *harness.Server {
	t.Helper()
	for _, l := range []string{"rtmp_addr", "httpflv_addr"} {
		flags = append(flags, "--"+l+"="+s.Addr(l))
	}
	next := harness.Start(t, harness.Options{DataDir: s.DataDir, Flags: flags})
	for _, l := range []string{"rtmp_addr", "httpflv_addr"} {
		next.SetAddr(l, s.Addr(l))
	}
	return next
}

// TestRelayPushReconnects kills the server to which a stream is pushed, by static_push and by
// request, and starts it again.
func TestRelayPushReconnects(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	b := harness.Start(t, harness.Options{Flags: []string{"--rtmp_noauth"}})
	dir := t.TempDir()
	settings := "server:\n- appname: live\n  static_push: ['rtmp://user:pass@" + b.Addr("rtmp_addr") + "/live']\n"
	if err := os.WriteFile(filepath.Join(dir, "livego.yaml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	a, src := harness.Start(t, harness.Options{Dir: dir, Flags: []string{allowLoopback}}), load(t, sample.AV)
	encoder := a.Push(src.File(t), "movie", "-stream_loop", "-1")
	controlRelay(t, a, "push", "start", "movie", b.RTMP("second"), "rtmp://"+b.Addr("rtmp_addr")+"/live/***")
	b.AwaitLive("movie")
	b.AwaitLive("second")
	awaitRelay(t, a, "movie", func(r relayStatus) bool { return r.Static && isRunning(r) })
	b.Kill()
	awaitRelay(t, a, "movie", func(r relayStatus) bool { return r.Static && r.Attempts > 0 })
	b = restartServer(t, b, "--rtmp_noauth")
	b.AwaitLive("movie")
	b.AwaitLive("second")
	awaitMoreFrames(t, watchRTMP(t, b.RTMP("movie")), "frames from the restarted server")
	if encoder.Ended() {
		t.Errorf("the encoder has exited:\n%s", encoder.Stderr())
	}
	encoder.Kill()
}

// TestRelayPullReconnects kills the server from which streams are pulled: viewers stay, and
// continue when it is back.
func TestRelayPullReconnects(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	a, b := harness.Start(t, harness.Options{}),
		harness.Start(t, harness.Options{Flags: []string{allowLoopback, "--publish_hold=60s"}})
	src := load(t, sample.AV)
	encoder := a.Push(src.File(t), "movie", "-stream_loop", "-1")
	controlRelay(t, b, "pull", "start", "byrtmp", a.RTMP("movie"), "rtmp://"+a.Addr("rtmp_addr")+"/live/***")
	controlRelay(t, b, "pull", "start", "byflv", a.FLV("movie"), "http://"+a.Addr("httpflv_addr")+"/live/***")
	viewers := map[string]*harness.Process{"byrtmp": watchRTMPEarly(t, b.RTMP("byrtmp")),
		"byflv": watchRTMPEarly(t, b.RTMP("byflv"))}
	for room, viewer := range viewers {
		awaitMoreFrames(t, viewer, room)
	}
	a.Kill()
	encoder.Wait(patience)
	for room := range viewers {
		awaitRelay(t, b, room, func(r relayStatus) bool { return r.Attempts > 0 })
	}
	a = restartServer(t, a)
	a.Push(src.File(t), "movie", "-stream_loop", "-1")
	for room, viewer := range viewers {
		awaitMoreFrames(t, viewer, room+", from the restarted server")
	}
}

// TestRelayFailedEventIsSentOnce checks that a relay that keeps failing sends one event.
func TestRelayFailedEventIsSentOnce(t *testing.T) {
	t.Parallel()
	var webhooks webhookRecorder
	program := httptest.NewServer(&webhooks)
	defer program.Close()
	s := harness.Start(t, harness.Options{
		Flags: []string{allowLoopback, "--hook.events=" + program.URL}, Env: []string{"LIVEGO_HOOK_SECRET=" + hookSecret},
	})
	controlRelay(t, s, "pull", "start", "movie", program.URL+"/live/s3cret.flv", program.URL+"/live/***")
	harness.Eventually(t, patience, "the event", func() error {
		text := webhooks.text()
		want := `"type":"relay.failed","stream":"live/movie"`
		if !strings.Contains(text, want) ||
			!strings.Contains(text, `"relay":{"direction":"pull","url":"`+program.URL+`/live/***","reason":"`) ||
			!strings.Contains(text, `"attempts":3}`) {
			return errors.New(text)
		}
		return nil
	})
	awaitRelay(t, s, "movie", func(r relayStatus) bool { return r.Attempts > 3 })
	if n := strings.Count(webhooks.text(), "relay.failed"); n != 1 || strings.Contains(s.Stderr(), "s3cret") {
		t.Errorf("%d events; log: %s", n, s.Stderr())
	}
}

// TestRelaySurvivesKill kills the server right after it has created relays: those of /api/v1 start
// again, except one that is not to persist, and those of /control do not. A deleted one does not come
// back.
func TestRelaySurvivesKill(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	remote := harness.Start(t, harness.Options{Flags: []string{"--rtmp_noauth"}})
	target := func(room string) string { return remote.RTMP(room) + "?token=s3cret" }
	s := harness.Start(t, harness.Options{Flags: []string{allowLoopback}})
	controlRelay(t, s, "push", "start", "movie", target("control"), "rtmp://"+remote.Addr("rtmp_addr")+"/live/***")
	if status, r := createRelay(t, s, "movie", target("short"), `,"persist":false`); status != 201 || r.Persist {
		t.Errorf("%d %+v", status, r)
	}
	status, kept := createRelay(t, s, "movie", target("kept"), "")
	if again, r := createRelay(t, s, "movie", target("kept"), ""); status != 201 || again != 200 || r.ID != kept.ID {
		t.Errorf("%d %+v, then %d %+v", status, kept, again, r)
	}
	s.Kill()
	s = restartServer(t, s, allowLoopback)
	file := filepath.Join(s.DataDir, "relays.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	list := func() (ids []string) {
		var list struct{ Relays []relayStatus }
		body := harness.Get(t, s.API("/api/v1/relays"))
		if err := json.Unmarshal(body, &list); err != nil || strings.Contains(string(body), "s3cret") {
			t.Fatalf("%s, %v", body, err)
		}
		for _, r := range list.Relays {
			ids = append(ids, r.ID)
		}
		return ids
	}
	if got := list(); !slices.Equal(got, []string{kept.ID}) {
		t.Fatalf("relays after kill -9: %v, want %s", got, kept.ID)
	}
	s.Push(sample.AV.File(t), "movie", "-stream_loop", "-1")
	remote.AwaitLive("kept")
	awaitRelay(t, s, "movie", func(r relayStatus) bool { return isRunning(r) && r.Persist && r.Bytes > 0 })
	for path, want := range map[string]int{"/api/v1/relays/" + kept.ID: 204, "/api/v1/relays/x": 404} {
		if resp, body := request(t, http.MethodDelete, s.API(path), nil); resp.StatusCode != want {
			t.Errorf("DELETE %s: %s %s", path, resp.Status, body)
		}
	}
	s.Kill()
	s = restartServer(t, s, allowLoopback)
	if got := list(); got != nil {
		t.Errorf("the deleted relay is back: %v", got)
	}
	if strings.Contains(s.Stderr(), "s3cret") {
		t.Errorf("log: %s", s.Stderr())
	}
}
