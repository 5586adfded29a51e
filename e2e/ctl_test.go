package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/sample"
)

// TestCtl operates a server from a shell: from a room to the download of its recording.
func TestCtl(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	recordings := t.TempDir()
	s := harness.Start(t, harness.Options{Flags: []string{"--flv_archive", "--flv_dir=" + recordings,
		"--relay_allow=127.0.0.1"}})
	src, dir := load(t, sample.AV), t.TempDir()
	token, err := os.ReadFile(filepath.Join(s.DataDir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"LIVEGO_CTL_CONTEXTS=" + filepath.Join(dir, "contexts.json"),
		"LIVEGO_CTL_TOKEN=" + strings.TrimSpace(string(token))}
	wrong := []string{environ[0], "LIVEGO_CTL_TOKEN=wrong"}
	run := func(environ []string, code int, args ...string) string {
		t.Helper()
		p := harness.Livego(t, dir, environ, append([]string{"ctl"}, args...)...)
		if got := p.Wait(patience); got != code {
			t.Fatalf("livego ctl %v: exit code %d, want %d: %s%s", args, got, code, p.Stdout(), p.Stderr())
		}
		return p.Stdout()
	}
	ctl := func(args ...string) string { t.Helper(); return run(environ, 0, args...) }
	run(environ, 0, "context", "set", "test", "--server=http://"+s.Addr("api_addr"))
	var room struct{ Key string }
	if err := json.Unmarshal([]byte(ctl("rooms", "create", "movie", "--json")), &room); err != nil || len(room.Key) != 48 {
		t.Fatalf("the room: %+v, %v", room, err)
	}
	events := harness.Livego(t, dir, environ, "ctl", "events", "--watch", "--type=denied,stream,recording", "--json")
	awaitEvent := func(what string) {
		t.Helper()
		harness.Eventually(t, patience, "event "+what, func() error {
			if what == "denied" { // until the subscription exists
				run(wrong, 1, "rooms", "list")
			}
			if !strings.Contains(events.Stdout(), `"type":"`+what+`"`) {
				return errors.New(events.Stdout())
			}
			return nil
		})
	}
	awaitEvent("denied")
	push := s.PushTo(src.File(t), s.RTMP(room.Key), "-stream_loop", "-1")
	s.AwaitLive("movie")
	harness.Eventually(t, patience, "tracks in the list", func() error {
		list := ctl("streams", "list")
		if !strings.Contains(list, "live/movie  live") || !strings.Contains(list, "h264 ") {
			return errors.New(list)
		}
		return nil
	})
	one := ctl("streams", "get", "movie")
	if !strings.Contains(one, "\nTRACKS\n") || !strings.Contains(one, "\nPUBLISHERS\n") {
		t.Errorf("the stream is\n%s", one)
	}
	var sessions []struct{ ID, Kind, Proto string }
	if err := json.Unmarshal([]byte(ctl("sessions", "list", "--json")), &sessions); err != nil || len(sessions) != 1 ||
		sessions[0].Kind != "publisher" {
		t.Fatalf("the sessions: %+v, %v", sessions, err)
	}
	ctl("settings", "set", "max_latency=5s")
	if diff := ctl("settings", "diff"); !strings.Contains(diff, "max_latency") {
		t.Errorf("the changed settings are\n%s", diff)
	}
	ctl("settings", "unset", "max_latency")
	ctl("reload")
	nobody := fmt.Sprintf("rtmp://127.0.0.1:%d/live/x", harness.FreePorts(t, 1)[0])
	relay := strings.Fields(ctl("relays", "create", "push", "movie", nobody))
	if len(relay) < 2 || relay[0] != "id" {
		t.Fatalf("the relay: %v", relay)
	}
	ctl("relays", "delete", relay[1])
	ctl("sessions", "end", sessions[0].ID)
	if push.Wait(10*time.Second) == 0 {
		t.Error("the publisher was not disconnected")
	}
	ctl("streams", "end", "movie")
	var recorded []struct{ ID, State, File string }
	harness.Eventually(t, patience, "recording finished", func() error {
		err := json.Unmarshal([]byte(ctl("recordings", "list", "--state=finished", "--json")), &recorded)
		if err == nil && len(recorded) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	ctl("recordings", "download", recorded[0].ID, "copy.flv")
	want, err := os.ReadFile(filepath.Join(recordings, recorded[0].File))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "copy.flv")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the downloaded file differs: %d bytes, want %d, %v", len(got), len(want), err)
	}
	ctl("recordings", "delete", recorded[0].ID)
	for _, what := range []string{"stream.started", "stream.ended", "recording.finished"} {
		awaitEvent(what)
	}
	ctl("rooms", "delete", "movie")
	run(environ, 1, "rooms", "get", "movie")
}
