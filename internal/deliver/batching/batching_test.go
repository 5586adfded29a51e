package batching

import (
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		policy  *Policy
		viewers int
		busy    uint64 // in 1/1000 of the processors
		want    time.Duration
		audio   time.Duration
	}{
		{"one viewer", New(true, 0), 1, 0, 0, 0},
		{"few on a server with some load", New(true, 0), 1, 250, 0, 90 * ms},
		{"few", New(true, 0), 49, 500, 0, 90 * ms},
		{"some", New(true, 0), 50, 0, 5 * ms, 90 * ms},
		{"many", New(true, 0), 450, 0, 45 * ms, 90 * ms},
		{"very many", New(true, 0), 100_000, 1000, 45 * ms, 90 * ms},
		{"few on a busy server", New(true, 0), 1, 700, 22 * ms, 90 * ms},
		{"few on a full server", New(true, 0), 1, 1000, 45 * ms, 90 * ms},
		{"some on a busy server", New(true, 0), 300, 700, 30 * ms, 90 * ms},
		{"fixed", New(false, 7*ms), 1000, 1000, 7 * ms, 14 * ms},
		{"fixed to 0", New(false, 0), 1000, 1000, 0, 0},
	} {
		tt.policy.permille.Store(tt.busy)
		if got, audio := tt.policy.Window(tt.viewers); got != tt.want || audio != tt.audio {
			t.Errorf("%s: %v, audio %v, want %v and %v", tt.name, got, audio, tt.want, tt.audio)
		}
	}
}

func TestSet(t *testing.T) {
	p := New(true, 0)
	p.Set(false, 7*time.Millisecond)
	if got, _ := p.Window(1000); got != 7*time.Millisecond {
		t.Errorf("fixed: %v", got)
	}
	p.Set(true, 0)
	if got, _ := p.Window(450); got != maxWindow {
		t.Errorf("auto: %v", got)
	}
}
