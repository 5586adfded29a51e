package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

func TestKeySurvivesRestart(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	key := s.Key("movie")
	if again := s.Key("movie"); again != key {
		t.Errorf("the key of the room changed")
	}
	s.Stop()
	s = harness.Start(t, harness.Options{DataDir: s.DataDir})
	if again := s.Key("movie"); again != key {
		t.Errorf("the key changed after a restart")
	}
}

// TestKeysSurviveKill kills the server several times while four clients create keys. Each
// acknowledged key must exist afterwards.
func TestKeysSurviveKill(t *testing.T) {
	t.Parallel()
	rounds := 20
	if harness.Long() {
		rounds = 200
	}
	seed := rand.New(rand.NewPCG(1, 2))
	all, latest := map[string]string{}, map[string]string{} // acknowledged keys by room
	dir := t.TempDir()
	for round := range rounds {
		s := harness.Start(t, harness.Options{DataDir: dir, NoRace: true})
		checkKeys(t, s, latest)
		latest = makeKeysUntilKilled(t, s, round, 1+seed.IntN(40))
		maps.Copy(all, latest)
	}
	checkKeys(t, harness.Start(t, harness.Options{DataDir: dir, NoRace: true}), all)
}

func checkKeys(t *testing.T, s *harness.Server, want map[string]string) {
	t.Helper()
	for room, key := range want {
		if got := s.Key(room); got != key {
			t.Fatalf("the acknowledged key of room %s changed", room)
		}
	}
}

// makeKeysUntilKilled has four clients create keys, kills the server when n are acknowledged, and
// returns the acknowledged keys by room.
func makeKeysUntilKilled(t *testing.T, s *harness.Server, round, n int) map[string]string {
	t.Helper()
	var mu sync.Mutex
	acked := map[string]string{}
	enough := make(chan struct{})
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := 0; ; i++ {
				room := fmt.Sprintf("r%d-%d-%d", round, client, i)
				key, err := requestKey(s.API("/control/get?room=" + room))
				if err != nil {
					return // killed
				}
				mu.Lock()
				if acked[room] = key; len(acked) == n {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	if !harness.WaitClosed(patience, enough) {
		t.Errorf("round %d: fewer than %d keys within %v", round, n, patience)
	}
	s.Kill()
	clients.Wait()
	return acked
}

func requestKey(url string) (string, error) {
	resp, err := harness.Client().Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var e harness.Envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK || len(e.Text()) != 48 {
		return "", fmt.Errorf("HTTP %d: %s", resp.StatusCode, body)
	}
	return e.Text(), nil
}

// TestResetDisconnectsPublisher resets the key of a live stream: the publisher is disconnected
// within a second, viewers stay, and the stream continues with the new key.
func TestResetDisconnectsPublisher(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	old := s.Key("movie")
	push := s.PushTo(src.File(t), s.RTMP(old), "-stream_loop", "-1")
	s.AwaitLive("movie")
	viewer := watchRTMP(t, s.RTMP("movie"))
	awaitPlayers(t, s, 1)

	e := s.Call("/control/reset?room=movie")
	if e.Status != 200 || len(e.Text()) != 48 || e.Text() == old {
		t.Fatalf("reset answers %d %s", e.Status, e.Data)
	}
	awaitUnpublished(t, s, "movie")
	if code := push.Wait(5 * time.Second); code == 0 {
		t.Error("ffmpeg exits with code 0")
	}
	if key := s.Key("movie"); key != e.Text() {
		t.Error("get returns another key than reset")
	}

	refused := s.PushTo(src.File(t), s.RTMP(old))
	if code := refused.Wait(patience); code == 0 {
		t.Error("the old key still publishes")
	}
	if viewer.Ended() {
		t.Fatalf("the viewer was disconnected:\n%s", viewer.Stderr())
	}
	before := len(viewer.Stdout())
	src.push(s, t, "movie").WaitOK(patience)
	viewer.WaitOK(patience)
	if len(viewer.Stdout()) <= before {
		t.Error("the viewer got nothing of the stream with the new key")
	}
}

// TestDeleteEndsStream deletes a room: its key is revoked, and the stream ends for publisher and
// viewers.
func TestDeleteEndsStream(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s, src := harness.Start(t, harness.Options{}), load(t, sample.AV)
	old := s.Key("movie")
	push := s.PushTo(src.File(t), s.RTMP(old), "-stream_loop", "-1")
	s.AwaitLive("movie")
	rtmp := watchRTMP(t, s.RTMP("movie"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	flv := async(func() (any, error) { return watchFLV(ctx, harness.Client(), s.FLV("movie")) })
	awaitPlayers(t, s, 2)

	if e := s.Call("/control/delete?room=movie"); e.Status != 200 || e.Text() != "Ok" {
		t.Errorf("delete answers %d %s", e.Status, e.Data)
	}
	awaitUnpublished(t, s, "movie")
	push.Wait(5 * time.Second)
	rtmp.WaitOK(5 * time.Second)
	if _, err := flv(); err != nil {
		t.Errorf("HTTP-FLV: %v", err)
	}
	if e := s.Call("/control/delete?room=movie"); e.Status != 404 || !strings.Contains(e.Text(), "room not found") {
		t.Errorf("second delete answers %d %s", e.Status, e.Data)
	}
	if s.Key("movie") == old {
		t.Error("a deleted room has its old key after it was created again")
	}
}

// awaitPlayers waits until the statistics list n players.
func awaitPlayers(t *testing.T, s *harness.Server, n int) {
	t.Helper()
	harness.Eventually(t, patience, "players", func() error {
		if got := len(s.Stat().Players); got != n {
			return fmt.Errorf("%d players, want %d", got, n)
		}
		return nil
	})
}

// awaitReceived waits until there are n players, and each was sent this many consecutive pictures
// of src.
func (src source) awaitReceived(t *testing.T, s *harness.Server, n, pictures int) {
	t.Helper()
	video, bytes := src.packets.Of(mediacompare.Video), 0 // maximum over consecutive pictures
	for from := range len(video) - pictures {
		sum := 0
		for _, u := range video[from : from+pictures] {
			sum += u.Size
		}
		bytes = max(bytes, sum)
	}
	harness.Eventually(t, patience, "players", func() error {
		players := s.Stat().Players
		if len(players) != n {
			return fmt.Errorf("%d players, want %d", len(players), n)
		}
		for _, p := range players {
			if p.VideoTotalBytes < uint64(bytes) {
				return fmt.Errorf("%s was sent %d bytes of video, want %d", p.URL, p.VideoTotalBytes, bytes)
			}
		}
		return nil
	})
}

// awaitUnpublished waits until room is not published, for one second at most.
func awaitUnpublished(t *testing.T, s *harness.Server, room string) {
	t.Helper()
	harness.Eventually(t, time.Second, "publisher disconnected", func() error {
		for _, p := range s.Stat().Publishers {
			if p.Key == "live/"+room {
				return fmt.Errorf("still publishing: %+v", p)
			}
		}
		return nil
	})
}
