package app

import (
	"testing"
	"time"

	"livego/internal/ops/config"
)

func TestBatchWindow(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		setting config.BatchWindow
		viewers int
		busy    uint64 // in 1/1000 of the processors
		want    time.Duration
		audio   time.Duration
	}{
		{"one viewer", config.BatchWindow{Auto: true}, 1, 0, 0, 0},
		{"few on a server with some load", config.BatchWindow{Auto: true}, 1, 250, 0, 90 * ms},
		{"few", config.BatchWindow{Auto: true}, 49, 500, 0, 90 * ms},
		{"some", config.BatchWindow{Auto: true}, 50, 0, 5 * ms, 90 * ms},
		{"many", config.BatchWindow{Auto: true}, 450, 0, 45 * ms, 90 * ms},
		{"very many", config.BatchWindow{Auto: true}, 100_000, 1000, 45 * ms, 90 * ms},
		{"few on a busy server", config.BatchWindow{Auto: true}, 1, 700, 22 * ms, 90 * ms},
		{"few on a full server", config.BatchWindow{Auto: true}, 1, 1000, 45 * ms, 90 * ms},
		{"some on a busy server", config.BatchWindow{Auto: true}, 300, 700, 30 * ms, 90 * ms},
		{"subscribers inside a busy server", config.BatchWindow{Auto: true}, 0, 1000, 0, 0},
		{"fixed", config.BatchWindow{Fixed: 7 * ms}, 1000, 1000, 7 * ms, 14 * ms},
		{"fixed to 0", config.BatchWindow{}, 1000, 1000, 0, 0},
	} {
		var l cpuLoad
		l.permille.Store(tt.busy)
		if got, audio := batchWindow(tt.setting, &l)("rtmp", tt.viewers); got != tt.want || audio != tt.audio {
			t.Errorf("%s: %v, audio %v, want %v and %v", tt.name, got, audio, tt.want, tt.audio)
		}
	}
}
