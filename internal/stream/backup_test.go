package stream

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"livego/internal/domain"
	"livego/internal/media"
)

func TestBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{Hold: 20 * time.Second})
		primary := mustPublish(t, h, owned("p", domain.Primary))
		backup := mustPublish(t, h, owned("b", domain.Backup))
		var s *Subscriber
		var got []*media.Frame
		run := func(seconds int, usePrimary, useBackup bool) {
			for i := range seconds * 25 {
				at := time.Duration(time.Now().UnixNano())
				if usePrimary {
					write(t, primary, video(at, i%25 == 0), audio(at))
				}
				if useBackup {
					f := video(at+time.Hour, i%25 == 12)
					f.Payload = make([]byte, 77) // marks the frames of the backup
					write(t, backup, f)
				}
				if s == nil {
					s = mustSubscribe(t, h, SubscribeOptions{GOPs: 1})
				}
				got = append(got, readAll(t, s)...)
				time.Sleep(40 * ms)
			}
		}
		source := func() int { // payload size of the last video frame seen
			for i := len(got) - 1; i >= 0; i-- {
				if got[i].Track == h264 {
					return len(got[i].Payload)
				}
			}
			return 0
		}
		run(5, true, true)
		if source() != 100 {
			t.Fatal("the backup is active beside a healthy primary")
		}
		run(1, false, true)
		if source() != 100 {
			t.Fatal("the backup became active after one second")
		}
		run(3, false, true)
		if source() != 77 {
			t.Fatal("the backup did not become active")
		}
		run(8, true, true)
		if source() != 77 {
			t.Fatal("the primary became active before it was healthy for 10 s")
		}
		run(4, true, true)
		if source() != 100 {
			t.Fatal("the primary did not become active again")
		}
		checkMonotonic(t, got)
		primary.End(Lost)
		run(3, false, true)
		if source() != 77 {
			t.Fatal("the backup did not replace a lost primary")
		}
		backup.End(Clean)
		if _, err := s.Poll(make([]*media.Frame, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after both ended: %v, want EOF", err)
		}
	})
}

// TestBackupGoesIdle has the active backup stop while the primary has been back for a short time
// only.
func TestBackupGoesIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(Options{})
		primary := mustPublish(t, h, owned("a", domain.Primary))
		backup := mustPublish(t, h, owned("b", domain.Backup))
		var at time.Duration
		step := func(publishers ...*Publisher) {
			for _, p := range publishers {
				write(t, p, video(at, at%time.Second == 0))
			}
			at += 40 * ms
			time.Sleep(40 * ms)
		}
		for range 100 {
			step(primary, backup)
		}
		for range 100 {
			step(backup)
		}
		info, _ := h.Info(movie)
		frames, silent := info.Frames, time.Now()
		for info.Frames == frames {
			step(primary)
			info, _ = h.Info(movie)
		}
		if d := time.Since(silent); d > 4*time.Second {
			t.Errorf("viewers got no frame for %v", d)
		}
	})
}
