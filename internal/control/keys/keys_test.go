package keys_test

import (
	"testing"

	"livego/internal/control/keys"
	"livego/internal/control/store/storetest"
	"livego/internal/domain"
)

// TestConformance runs the suite over a store in memory. Each store runs it too.
func TestConformance(t *testing.T) {
	storetest.RunKeys(t, func(*testing.T) domain.KeyStore { return keys.New(&storetest.Memory{}) })
}
