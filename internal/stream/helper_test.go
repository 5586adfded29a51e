package stream

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

var (
	movie = domain.Name{App: "live", Room: "movie"}
	h264  = &media.Track{Kind: media.Video, Codec: media.H264, Timescale: 90000, Config: []byte{1}}
	aac   = &media.Track{Kind: media.Audio, Codec: media.AAC, Timescale: 44100, SampleRate: 44100, FrameSamples: 1024}
	both  = &media.Meta{HasVideo: true, HasAudio: true}
)

const ms = time.Millisecond

func video(at time.Duration, key bool) *media.Frame {
	f := &media.Frame{Track: h264, Meta: both, DTS: at, PTS: at, Payload: make([]byte, 100), Arrived: time.Now()}
	if key {
		f.RAP, f.KeyFlag = media.Keyframe, true
	}
	return f
}

func audio(at time.Duration) *media.Frame {
	return &media.Frame{Track: aac, Meta: both, DTS: at, PTS: at, RAP: media.Keyframe, Payload: make([]byte, 10),
		Arrived: time.Now()}
}

func owned(owner any, role domain.Role) PublishOptions {
	return PublishOptions{Proto: "test", Owner: owner, Role: role}
}

func mustPublish(t *testing.T, h *Hub, o PublishOptions) *Publisher {
	t.Helper()
	p, err := h.Publish(context.Background(), movie, o)
	if err != nil {
		t.Fatalf("Publish: %v", err)
	}
	return p
}

func mustSubscribe(t *testing.T, h *Hub, o SubscribeOptions) *Subscriber {
	t.Helper()
	s, err := h.Subscribe(context.Background(), movie, o)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	return s
}

func write(t *testing.T, p *Publisher, frames ...*media.Frame) {
	t.Helper()
	for _, f := range frames {
		if err := p.Write(f); err != nil {
			t.Fatalf("Write: %v", err)
		}
	}
}

// gop writes seconds of 25 fps video, with a keyframe each second, and audio, from encoder time
// from on.
func gop(t *testing.T, p *Publisher, from time.Duration, seconds int) {
	t.Helper()
	for i := range seconds * 25 {
		at := from + time.Duration(i)*40*ms
		write(t, p, video(at, i%25 == 0), audio(at))
	}
}

// readAll reads all frames that are ready.
func readAll(t *testing.T, s *Subscriber) []*media.Frame {
	t.Helper()
	var all []*media.Frame
	buf := make([]*media.Frame, 16)
	for {
		n, err := s.Poll(buf)
		if n == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("Poll: %v", err)
			}
			return all
		}
		all = append(all, buf[:n]...)
	}
}

// checkMonotonic fails if the DTS of a track goes back.
func checkMonotonic(t *testing.T, frames []*media.Frame) {
	t.Helper()
	last := map[media.Kind]time.Duration{}
	for i, f := range frames {
		if d, ok := last[f.Track.Kind]; ok && f.DTS < d {
			t.Errorf("frame %d: %v DTS %v after %v", i, f.Track.Kind, f.DTS, d)
		}
		last[f.Track.Kind] = f.DTS
	}
}
