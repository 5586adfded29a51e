package browser

import (
	"testing"

	"livego/e2e/harness"
)

// TestTiming tests when pictures are played. It runs before the tests that keep the processors busy, which are
// parallel; its own need little of them. With TEST_LONG=1 they measure, one after the other.
func TestTiming(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"delay by protocol": testDelayByProtocol, "latency of HLS": testHLSLatency, "long GOP": testLongGOPDoesNotStall,
		"slow camera": testSlowCameraPlays, "catching up": testPlayerPageCatchesUpAndReconnects,
	} {
		t.Run(name, func(t *testing.T) {
			if !harness.Long() {
				t.Parallel()
			}
			test(t)
		})
	}
}
