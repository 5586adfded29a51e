package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// mediaSequence returns the media sequence number of a room's playlist at s.
func mediaSequence(s *harness.Server, room string) (int, error) {
	resp, err := harness.Client().Get(strings.TrimSuffix(s.HLS(room), ".m3u8") + "/index.m3u8")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	m := regexp.MustCompile(`#EXT-X-MEDIA-SEQUENCE:(\d+)`).FindSubmatch(body)
	if err != nil || m == nil {
		return 0, fmt.Errorf("HTTP %d: %s, %v", resp.StatusCode, body, err)
	}
	return strconv.Atoi(string(m[1]))
}

// TestCluster publishes a file on one of three nodes and watches it on the two others, by every protocol.
// The others refuse encoders. Then the owner is killed and comes back.
func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := harness.StartCluster(t, 3, harness.Options{Flags: []string{"--publish_hold=3s", "--hls_segment=500ms"}})
	owner := nodes[0]
	src := load(t, sample.AV)

	key := nodes[1].Key("movie")
	refused := harness.FFmpeg(t, "-re", "-i", src.File(t), "-c", "copy", "-f", "flv", nodes[1].RTMP(key))
	if code := refused.Wait(patience); code == 0 {
		t.Error("a node that does not own the stream accepts it")
	}
	nodes[1].AwaitLog(patience, "live/movie belongs to node node-0: publish it there")

	rtmp := watchRTMPEarly(t, nodes[1].RTMP("movie"))
	awaitWaiting(nodes[1], "movie")
	webSocket := watchWebSocket(t.Context(), t, "ws"+strings.TrimPrefix(nodes[2].FLV("movie"), "http"), nil)
	awaitWaiting(nodes[2], "movie")
	flv := async(func() (*mediacompare.FLVFile, error) {
		return watchFLV(t.Context(), harness.Client(), nodes[2].FLV("movie"))
	})
	push := owner.Push(src.File(t), "movie")
	push.WaitOK(patience)
	check(t, "RTMP", src.packets, frames(t, rtmp), mediacompare.Millisecond)
	for label, watch := range map[string]func() (*mediacompare.FLVFile, error){"HTTP-FLV": flv, "WebSocket": webSocket} {
		f, err := watch()
		if err != nil {
			t.Fatalf("%s: %v", label, err)
		}
		src.checkFLV(t, label, f)
	}

	owner.Push(src.File(t), "movie", "-stream_loop", "-1")
	owner.AwaitLive("movie")
	before := 0
	harness.Eventually(t, patience, "a playlist at a replica", func() (err error) {
		before, err = mediaSequence(nodes[2], "movie")
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, nodes[1].FLV("movie"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := harness.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 10_000); err != nil {
		t.Fatal(err)
	}
	owner.Kill()
	nodes[1].AwaitLog(patience, "replica connection lost")
	if _, err := io.Copy(io.Discard, resp.Body); err != nil { // it ends after publish_hold
		t.Errorf("the viewer was not ended cleanly: %v", err)
	}
	back := owner.StartAgain()
	back.Push(src.File(t), "movie", "-stream_loop", "-1")
	for _, n := range nodes[1:] {
		harness.Eventually(t, patience, "FLV at a replica after a restart of its owner", func() error {
			_, err := firstBytes(n.FLV("movie"), 10_000)
			return err
		})
		harness.Eventually(t, patience, "HLS at a replica after a restart of its owner", func() error {
			after, err := mediaSequence(n, "movie")
			switch {
			case err == nil && after < before:
				t.Errorf("the media sequence number went from %d to %d", before, after)
			case err == nil && after == before:
				err = fmt.Errorf("the media sequence number is %d, as before", after)
			}
			return err
		})
	}
}

// firstBytes returns the first n bytes of a response.
func firstBytes(url string, n int64) ([]byte, error) {
	resp, err := harness.Client().Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = io.CopyN(&b, resp.Body, n)
	return b.Bytes(), err
}
