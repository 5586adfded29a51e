package browser

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"livego/e2e/harness"
	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// TestBrowserPlaysDamagedStreams plays streams with data that decoders ignore: NAL units of types
// that H.264 leaves unspecified, zero bytes after a picture, delimiters of one byte, and audio that
// is muted half of the time. Chromium parses NAL units more strictly than ffmpeg.
func TestBrowserPlaysDamagedStreams(t *testing.T) {
	harness.Need(t, "ffmpeg")
	t.Parallel()
	s := harness.Start(t, harness.Options{NoRace: true})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var addresses []string
	var pushes []<-chan error
	for name, change := range map[string]func(tag mediacompare.FLVTag, body []byte) []byte{
		"units": func(tag mediacompare.FLVTag, b []byte) []byte {
			if tag.Type != mediacompare.TagVideo {
				return b
			}
			before, after := []byte{0, 0, 0, 1, 9, 0, 0, 0, 3, 24, 1, 2}, []byte{0, 0, 0, 3, 31, 1, 2, 0, 0}
			return append(append(append(b[:5:5], before...), b[5:]...), after...)
		},
		"muted": func(tag mediacompare.FLVTag, b []byte) []byte {
			if tag.Type == mediacompare.TagAudio && tag.Time/2000%2 == 0 {
				return b[:2]
			}
			return b
		},
	} {
		file := repeat(sample.AV.Read(t), 30)
		for i, tag := range file.Tags {
			if tag.IsFrame() {
				file.Tags[i].Body = change(tag, tag.Body)
			}
		}
		key, done := s.Key(name), make(chan error, 1)
		go func() { done <- pushTags(ctx, s.Addr("rtmp_addr"), key, file.Tags) }()
		pushes = append(pushes, done)
		s.AwaitLive(name)
		addresses = append(addresses, s.HLS(name), "ws"+strings.TrimPrefix(s.FLV(name), "http"))
	}
	began := map[int]float64{} // time at which each player started
	play(t, addresses...).await("every stream", func(n int, s playerState) bool {
		if began[n] == 0 {
			began[n] = s.Time
		}
		return s.Time > began[n]+6 && s.Frames > 100 && s.Bright-s.Dark > 50
	})
	cancel()
	for _, done := range pushes {
		if err := <-done; err != nil {
			t.Errorf("the encoder: %v", err)
		}
	}
}

// pushTags publishes tags in real time until all are sent or ctx is done, which is no error.
func pushTags(ctx context.Context, addr, key string, tags []mediacompare.FLVTag) error {
	c, err := rtmp.Dial(net.Dialer{}, addr, "live", patience)
	if err != nil {
		return err
	}
	defer c.NetConn.Close()
	if err = c.Publish(key); err == nil {
		err = c.AwaitStart("NetStream.Publish.Start", patience)
	}
	began := time.Now()
	for _, tag := range tags {
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(began.Add(time.Duration(tag.Time) * time.Millisecond))):
		}
		err = c.Send(rtmp.Message{CSID: 4 + int(tag.Type)%2, Type: tag.Type, StreamID: c.StreamID, Time: tag.Time,
			Payload: tag.Body})
	}
	return err
}
