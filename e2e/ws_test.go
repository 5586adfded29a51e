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

	"livego/e2e/essence"
	"livego/e2e/rig"
	"livego/e2e/sample"
)

// openWS opens a WebSocket and returns a function that plays it to its end.
func openWS(ctx context.Context, t testing.TB, url string, config *tls.Config) func() (*essence.FLVFile, error) {
	t.Helper()
	ws, err := rig.OpenWebSocket(ctx, url, config)
	if err != nil {
		t.Fatal(err)
	}
	return async(func() (*essence.FLVFile, error) {
		defer ws.Close()
		var file []byte
		for {
			message, err := ws.Message()
			var closed *rig.Closed
			switch {
			case err == nil:
				file = append(file, message...)
			case errors.As(err, &closed) && closed.Code == 1000 && closed.Text == "the stream has ended":
				return essence.ReadFLV(bytes.NewReader(file))
			default:
				return nil, fmt.Errorf("%s: after %d bytes: %w", url, len(file), err)
			}
		}
	})
}

// TestWatchWebSocket pushes samples and watches them by WebSocket, plain and over TLS. A viewer who came before the push gets all of it.
func TestWatchWebSocket(t *testing.T) {
	rig.Need(t, "ffmpeg")
	t.Parallel()
	cert, key, client := certificate(t)
	trust := client.Transport.(*http.Transport).TLSClientConfig
	server := rig.Start(t, rig.Options{Flags: []string{"--enable_https=true", "--rtmps_cert=" + cert, "--rtmps_key=" + key}})
	for _, sam := range sample.All() {
		if !slices.Contains([]string{"h264-aac", "aac-only", "keyframe-2mb"}, sam.Name) {
			continue
		}
		t.Run(sam.Name, func(t *testing.T) {
			t.Parallel()
			s, src, room := server.In(t), load(t, sam), sam.Name
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			path := "/live/" + room + ".flv"
			plain, secure := "ws://"+s.Addr("httpflv_addr")+path, "wss://"+s.Addr("https_addr")+path

			early := openWS(ctx, t, plain, nil)
			push := src.push(s, t, room)
			s.AwaitLive(room)
			late := openWS(ctx, t, secure, trust)
			rig.Eventually(t, patience, "both counted", func() error {
				seen := map[string]int{}
				for _, p := range s.Stat().Players {
					seen[p.URL]++
				}
				if seen[plain] != 1 || seen[secure] != 1 {
					return fmt.Errorf("players %v", seen)
				}
				return nil
			})
			push.OK(patience)

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
			if m, err := essence.Compare(src.packets, packets, essence.Millisecond); err != nil || m.Video.First != 0 || m.Audio.First > src.audioBeforeVideo() {
				t.Errorf("who waited starts at picture %d and audio frame %d: %v", m.Video.First, m.Audio.First, err)
			}
		})
	}
}
