package rig

import (
	"slices"
	"testing"
)

// TestFreePorts: no port is given to two tests at once, though none listens on them.
func TestFreePorts(t *testing.T) {
	const each = 200
	first := FreePorts(t, each)
	for _, port := range FreePorts(t, each) {
		if slices.Contains(first, port) {
			t.Errorf("port %d twice", port)
		}
	}
	var given int
	t.Run("a test that ends", func(t *testing.T) { given = FreePorts(t, 1)[0] })
	if !reserve(t, given) {
		t.Errorf("port %d stays reserved", given)
	}
}
