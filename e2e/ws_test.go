package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/sample"
)

// watchWebSocket opens a WebSocket and returns a function that plays it to its end.
func watchWebSocket(ctx context.Context, t testing.TB, url string, config *tls.Config) func() (*mediacompare.FLVFile,
	error) {
	t.Helper()
	ws, err := harness.OpenWebSocket(ctx, url, config)
	if err != nil {
		t.Fatal(err)
	}
	return async(func() (*mediacompare.FLVFile, error) {
		defer ws.Close()
		var file []byte
		for {
			message, err := ws.ReadMessage()
			var closed *harness.CloseError
			switch {
			case err == nil:
				file = append(file, message...)
			case errors.As(err, &closed) && closed.Code == 1000 && closed.Text == "the stream has ended":
				return mediacompare.ReadFLV(bytes.NewReader(file))
			default:
				return nil, fmt.Errorf("%s: after %d bytes: %w", url, len(file), err)
			}
		}
	})
}

// TestWatchWebSocket pushes samples and watches them by WebSocket-FLV, with and without TLS. A
// viewer that connected before the push gets all of it.
func TestWatchWebSocket(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	cert, key, client := tlsCertificate(t)
	trust := client.Transport.(*http.Transport).TLSClientConfig
	server := harness.Start(t, harness.Options{Flags: []string{"--enable_https=true", "--rtmps_cert=" + cert,
		"--rtmps_key=" + key}})
	for _, sam := range sample.All() {
		if !slices.Contains([]string{"h264-aac", "aac-only", "keyframe-2mb"}, sam.Name) {
			continue
		}
		t.Run(sam.Name, func(t *testing.T) {
			t.Parallel()
			s, src, room := server.WithT(t), load(t, sam), sam.Name
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			path := "/live/" + room + ".flv"
			plain, secure := "ws://"+s.Addr("httpflv_addr")+path, "wss://"+s.Addr("https_addr")+path

			early := watchWebSocket(ctx, t, plain, nil)
			push := src.push(s, t, room)
			s.AwaitLive(room)
			late := watchWebSocket(ctx, t, secure, trust)
			harness.Eventually(t, patience, "both counted", func() error {
				seen := map[string]int{}
				for _, p := range s.Stat().Players {
					seen[p.URL]++
				}
				if seen[plain] != 1 || seen[secure] != 1 {
					return fmt.Errorf("players %v", seen)
				}
				return nil
			})
			push.WaitOK(patience)

			if got, err := late(); err != nil {
				t.Error(err)
			} else {
				src.checkFLV(t, "joining later", got)
			}
			got, err := early()
			if err != nil {
				t.Fatal(err)
			}
			src.checkFLV(t, "waiting before the push", got)
			packets, err := got.Packets()
			if err != nil {
				t.Fatal(err)
			}
			if m, err := mediacompare.Compare(src.packets, packets, mediacompare.Millisecond); err != nil ||
				m.Video.First != 0 || m.Audio.First > src.audioBeforeVideo() {
				t.Errorf("the viewer that waited starts at picture %d and audio frame %d: %v", m.Video.First, m.Audio.First, err)
			}
		})
	}
}
