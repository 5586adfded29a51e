package harness

import (
	"slices"
	"testing"
)

// TestFreePortsAreDistinct: no port is given to two tests at once, though none listens on them.
func TestFreePortsAreDistinct(t *testing.T) {
	const each = 200
	first := FreePorts(t, each)
	for _, port := range FreePorts(t, each) {
		if slices.Contains(first, port) {
			t.Errorf("port %d twice", port)
		}
	}
	var given int
	t.Run("a test that ends", func(t *testing.T) { given = FreePorts(t, 1)[0] })
	if !reservePort(t, given) {
		t.Errorf("port %d stays reserved", given)
	}
}
