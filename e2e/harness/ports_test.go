package harness

import (
	"slices"
	"testing"
)

// TestFreePortsAreDistinct checks that no port is returned twice, even if nothing listens on it.
func TestFreePortsAreDistinct(t *testing.T) {
	const each = 200
	first := FreePorts(t, each)
	for _, port := range FreePorts(t, each) {
		if slices.Contains(first, port) {
			t.Errorf("port %d was returned twice", port)
		}
	}
	var given int
	t.Run("finished test", func(t *testing.T) { given = FreePorts(t, 1)[0] })
	if !reservePort(t, given) {
		t.Errorf("port %d is still reserved after its test", given)
	}
}
