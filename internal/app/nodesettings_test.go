package app

import (
	"testing"
	"time"

	"livego/internal/ops/config"
)

// TestReplicaHold checks that a publish_hold of 0 is not the default of a replica.
func TestReplicaHold(t *testing.T) {
	for hold, want := range map[time.Duration]time.Duration{0: minReplicaHold, time.Minute: time.Minute} {
		if got := nodeSettings(config.Config{PublishHold: hold}).Hold; got != want {
			t.Errorf("publish_hold %v: a replica is held for %v, want %v", hold, got, want)
		}
	}
}
